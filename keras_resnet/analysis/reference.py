"""The networks that residual ones are compared with, as Keras models.

Structures are the papers' and of the code that Canziani 2016 (1605.07678) measured;
parameters and multiply-adds equal `tests/golden/targets.csv`. All take normalized
images, put out logits, and start from random weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras

from keras_resnet.errors import UserError
from keras_resnet.layers import register

CLASSES = 1000
BN_EPSILON = 1e-3  # of the Torch and TF-slim code


@register
class LocalResponseNormalization(keras.layers.Layer):
    """x / (2 + 1e-4 * sum of x^2 over 5 channels)^0.75 (Krizhevsky 2012, s3.3)."""

    def call(self, inputs: Any) -> Any:
        """The same shape."""
        import tensorflow as tf

        return tf.nn.local_response_normalization(
            inputs, depth_radius=2, bias=2.0, alpha=1e-4, beta=0.75
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's."""
        return input_shape


def _conv(
    x: Any,
    filters: int,
    kernel: int | tuple[int, int] = 1,
    *,
    stride: int = 1,
    pad: int | None = None,
    groups: int = 1,
    norm: bool = False,
    bias: bool = True,
    relu: bool = True,
) -> Any:
    """Convolution, batch norm if wanted, ReLU; padded to keep the size, or by `pad`."""
    padding = "same"
    if pad is not None:
        padding = "valid"
        if pad:
            x = keras.layers.ZeroPadding2D(pad)(x)
    x = keras.layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding=padding,
        groups=groups,
        use_bias=bias,
        kernel_initializer="he_normal",
    )(x)
    if norm:
        x = keras.layers.BatchNormalization(epsilon=BN_EPSILON)(x)
    return keras.layers.ReLU()(x) if relu else x


def _max_pool(x: Any, pad: int = 0) -> Any:
    """3x3 at stride 2 of what a ReLU gave; sides are rounded up, as Caffe does."""
    if pad:
        x = keras.layers.ZeroPadding2D(pad)(x)
        return keras.layers.MaxPooling2D(3, 2)(x)
    # An even side's last window hangs over; of an odd side none does.
    padding = "valid" if x.shape[1] % 2 else "same"
    return keras.layers.MaxPooling2D(3, 2, padding=padding)(x)


def _classifier(x: Any, widths: Sequence[int], classes: int, *, norm: bool) -> Any:
    """Dense layers with dropout, and logits."""
    x = keras.layers.Flatten()(x)
    for width in widths:
        x = keras.layers.Dense(width)(x)
        if norm:
            x = keras.layers.BatchNormalization(epsilon=BN_EPSILON)(x)
        x = keras.layers.ReLU()(x)
        x = keras.layers.Dropout(0.5)(x)
    return keras.layers.Dense(classes, name="predictions")(x)


def alexnet(classes: int = CLASSES) -> keras.Model:
    """AlexNet of two groups, 227x227 (Krizhevsky 2012, as in Caffe)."""
    image = x = keras.Input((227, 227, 3), name="image")
    for filters, kernel, stride, pad, groups in ((96, 11, 4, 0, 1), (256, 5, 1, 2, 2)):
        x = _conv(x, filters, kernel, stride=stride, pad=pad, groups=groups)
        x = _max_pool(LocalResponseNormalization()(x))
    for filters, groups in ((384, 1), (384, 2), (256, 2)):
        x = _conv(x, filters, 3, groups=groups)
    x = _classifier(_max_pool(x), (4096, 4096), classes, norm=False)
    return keras.Model(image, x, name="alexnet")


def alexnet_one_tower(classes: int = CLASSES, *, norm: bool = False) -> keras.Model:
    """AlexNet of one tower, 224x224 (Krizhevsky 2014, as in torchvision).

    Args:
        classes: number of classes.
        norm: batch norm after each convolution and hidden dense layer: BN-AlexNet.
    """
    image = x = keras.Input((224, 224, 3), name="image")
    x = _max_pool(_conv(x, 64, 11, stride=4, pad=2, norm=norm))
    x = _max_pool(_conv(x, 192, 5, norm=norm))
    for filters in (384, 256, 256):
        x = _conv(x, filters, 3, norm=norm)
    x = _classifier(_max_pool(x), (4096, 4096), classes, norm=norm)
    return keras.Model(image, x, name="bn_alexnet" if norm else "alexnet_one_tower")


def nin(classes: int = CLASSES) -> keras.Model:
    """Network in Network, 224x224 (Lin 2013, as in Caffe's zoo)."""
    image = x = keras.Input((224, 224, 3), name="image")
    rows = ((96, 11, 4, 0), (256, 5, 1, 2), (384, 3, 1, 1))
    for filters, kernel, stride, pad in rows:
        x = _conv(x, filters, kernel, stride=stride, pad=pad)
        x = _max_pool(_conv(_conv(x, filters), filters))
    x = keras.layers.Dropout(0.5)(x)
    x = _conv(_conv(_conv(x, 1024, 3), 1024), classes)
    return keras.Model(image, keras.layers.GlobalAveragePooling2D()(x), name="nin")


def bn_nin(classes: int = CLASSES) -> keras.Model:
    """Network in Network with batch norms and a dense layer (ninbn.lua)."""
    image = x = keras.Input((224, 224, 3), name="image")
    rows = ((96, 11, 4, 5), (256, 5, 1, 2), (384, 3, 1, 1), (1024, 3, 1, 1))
    for i, (filters, kernel, stride, pad) in enumerate(rows):
        if i:
            x = _max_pool(x, pad=1)
        x = _conv(x, filters, kernel, stride=stride, pad=pad, norm=True)
        x = _conv(_conv(x, filters, norm=True), filters, norm=True)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(classes, name="predictions")(x)
    return keras.Model(image, x, name="bn_nin")


def _pooled(x: Any, kind: Any = keras.layers.MaxPooling2D) -> Any:
    """3x3 pool that keeps the size: a branch of an Inception module."""
    return kind(3, 1, padding="same")(x)


def _join(*branches: Any) -> Any:
    return keras.layers.Concatenate()(list(branches))


# 1x1; 3x3's reduction, 3x3; 5x5's reduction, 5x5; pool's projection (Table 1).
GOOGLENET = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def googlenet(classes: int = CLASSES, *, auxiliary: bool = False) -> keras.Model:
    """GoogLeNet, 224x224 (Szegedy 2014, 1409.4842, Table 1).

    Args:
        classes: number of classes.
        auxiliary: whether the two auxiliary classifiers are outputs too, for training
            with their losses at a weight of 0.3.
    """
    image = x = keras.Input((224, 224, 3), name="image")
    x = _max_pool(_conv(x, 64, 7, stride=2, pad=3))
    x = _conv(_conv(LocalResponseNormalization()(x), 64), 192, 3)
    x = _max_pool(LocalResponseNormalization()(x))
    heads = []
    for name, (one, reduce3, three, reduce5, five, pool) in GOOGLENET.items():
        if name in ("4a", "5a"):
            x = _max_pool(x)
        x = _join(
            _conv(x, one),
            _conv(_conv(x, reduce3), three, 3),
            _conv(_conv(x, reduce5), five, 5),
            _conv(_pooled(x), pool),
        )
        if auxiliary and name in ("4a", "4d"):
            y = _conv(keras.layers.AveragePooling2D(5, 3)(x), 128)
            y = keras.layers.Dense(1024, activation="relu")(keras.layers.Flatten()(y))
            y = keras.layers.Dropout(0.7)(y)
            heads.append(keras.layers.Dense(classes, name=f"auxiliary_{name}")(y))
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(classes, name="predictions")(keras.layers.Dropout(0.4)(x))
    return keras.Model(image, [x, *heads] if auxiliary else x, name="googlenet")


def inception_v4(classes: int = CLASSES) -> keras.Model:
    """Inception-v4, 299x299 (Szegedy 2016, 1602.07261, Figures 3 to 9)."""

    def conv(x: Any, *steps: tuple[int, Any] | tuple[int, Any, int]) -> Any:
        """Convolutions of (filters, kernel) or, without padding, (..., stride)."""
        for filters, kernel, *stride in steps:
            strides: dict[str, Any] = {"stride": stride[0], "pad": 0} if stride else {}
            x = _conv(x, filters, kernel, norm=True, bias=False, **strides)
        return x

    def pool(x: Any) -> Any:
        return keras.layers.MaxPooling2D(3, 2)(x)

    def average(x: Any) -> Any:
        return _pooled(x, keras.layers.AveragePooling2D)

    image = keras.Input((299, 299, 3), name="image")
    x = conv(image, (32, 3, 2), (32, 3, 1), (64, 3))
    x = _join(pool(x), conv(x, (96, 3, 2)))
    x = _join(
        conv(x, (64, 1), (96, 3, 1)),
        conv(x, (64, 1), (64, (1, 7)), (64, (7, 1)), (96, 3, 1)),
    )
    x = _join(conv(x, (192, 3, 2)), pool(x))
    for _ in range(4):
        x = _join(
            conv(x, (96, 1)),
            conv(x, (64, 1), (96, 3)),
            conv(x, (64, 1), (96, 3), (96, 3)),
            conv(average(x), (96, 1)),
        )
    x = _join(conv(x, (384, 3, 2)), conv(x, (192, 1), (224, 3), (256, 3, 2)), pool(x))
    for _ in range(7):
        x = _join(
            conv(x, (384, 1)),
            conv(x, (192, 1), (224, (1, 7)), (256, (7, 1))),
            conv(
                x, (192, 1), (192, (7, 1)), (224, (1, 7)), (224, (7, 1)), (256, (1, 7))
            ),
            conv(average(x), (128, 1)),
        )
    x = _join(
        conv(x, (192, 1), (192, 3, 2)),
        conv(x, (256, 1), (256, (1, 7)), (320, (7, 1)), (320, 3, 2)),
        pool(x),
    )
    for _ in range(3):
        y, z = conv(x, (384, 1)), conv(x, (384, 1), (448, (3, 1)), (512, (1, 3)))
        split = [conv(b, (256, k)) for b in (y, z) for k in ((1, 3), (3, 1))]
        x = _join(conv(x, (256, 1)), *split, conv(average(x), (256, 1)))
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(classes, name="predictions")(keras.layers.Dropout(0.2)(x))
    return keras.Model(image, x, name="inception_v4")


def _keras(name: str) -> Callable[..., keras.Model]:
    """A network of keras.applications, with logits."""

    def make(classes: int = CLASSES) -> keras.Model:
        application = getattr(keras.applications, name)
        return application(weights=None, classes=classes, classifier_activation=None)

    return make


class Reference(NamedTuple):
    """A network of the comparison: its name in print, source and builder."""

    title: str
    source: str
    build: Callable[..., keras.Model]


REFERENCES: dict[str, Reference] = {
    "alexnet": Reference("AlexNet", "Krizhevsky 2012", alexnet),
    "alexnet_one_tower": Reference(
        "AlexNet (one tower)", "Krizhevsky 2014 (1404.5997)", alexnet_one_tower
    ),
    "bn_alexnet": Reference(
        "BN-AlexNet",
        "alexnetowtbn.lua",
        lambda classes=CLASSES: alexnet_one_tower(classes, norm=True),
    ),
    "nin": Reference("NiN", "Lin 2013 (1312.4400)", nin),
    "bn_nin": Reference("BN-NiN", "ninbn.lua", bn_nin),
    "googlenet": Reference("GoogLeNet", "Szegedy 2014 (1409.4842)", googlenet),
    "vgg16": Reference("VGG-16", "Simonyan 2014 (1409.1556)", _keras("VGG16")),
    "vgg19": Reference("VGG-19", "Simonyan 2014 (1409.1556)", _keras("VGG19")),
    "inception_v3": Reference(
        "Inception-v3", "Szegedy 2015 (1512.00567)", _keras("InceptionV3")
    ),
    "inception_v4": Reference(
        "Inception-v4", "Szegedy 2016 (1602.07261)", inception_v4
    ),
    "inception_resnet_v2": Reference(
        "Inception-ResNet-v2", "Szegedy 2016, TF-slim", _keras("InceptionResNetV2")
    ),
}


def build_reference(name: str, *, classes: int = CLASSES) -> keras.Model:
    """One of `REFERENCES`, with random weights.

    Raises:
        UserError: no such network.
    """
    if name not in REFERENCES:
        raise UserError(f"network: {name!r} is not one of {', '.join(REFERENCES)}")
    return REFERENCES[name].build(classes)
