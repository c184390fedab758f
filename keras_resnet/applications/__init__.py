"""Drop-in for the residual networks of keras.applications, and siblings it lacks.

`from keras_resnet.applications import ResNet50` takes the arguments of Keras' own and
gives the same layers, weights, order and outputs; its weight files load.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import keras

from keras_resnet import weights as weight_files
from keras_resnet.applications.imagenet import decode_predictions, preprocess_input
from keras_resnet.network import PixelStats, build
from keras_resnet.presets import get_spec
from keras_resnet.weights import WeightsError

__all__ = [
    "ResNeXt50_32x4d",
    "ResNeXt101_32x4d",
    "ResNeXt101_32x8d",
    "ResNeXt101_64x4d",
    "ResNet18",
    "ResNet34",
    "ResNet50",
    "ResNet50V2",
    "ResNet101",
    "ResNet101V2",
    "ResNet152",
    "ResNet152V2",
    "ResNet200V2",
    "WideResNet28_10",
    "WideResNet40_4",
    "WideResNet50_2",
    "WideResNet101_2",
    "decode_predictions",
    "preprocess_input",
]


def _application(
    title: str, preset: str, name: str, published: str | None = None
) -> Callable[..., keras.Model]:
    """A function with the signature of keras.applications."""
    default = get_spec(preset)

    def application(
        include_top: bool = True,
        weights: str | Path | None = "imagenet" if published else None,
        input_tensor: Any = None,
        input_shape: Sequence[int | None] | None = None,
        pooling: Literal["avg", "max"] | None = None,
        classes: int = default.classes,
        classifier_activation: str | None = "softmax",
        name: str = name,
        *,
        pixel_stats: PixelStats | None = None,
    ) -> keras.Model:
        if weights == "imagenet":
            if published is None:
                rows = weight_files.PUBLISHED.items()
                others = [name for name, row in rows if row.preset == preset]
                advice = (
                    f"; weights.pretrained({others[0]!r}) has torch's" if others else ""
                )
                raise WeightsError(
                    f"weights: Keras has published none for {title}; give None or the "
                    f"path of a file{advice}"
                )
            if include_top and classes != default.classes:
                raise WeightsError(
                    f"weights: 'imagenet' with the classifier has {default.classes} "
                    f"classes, not {classes}; give include_top=False"
                )
        channels = default.input_shape[-1]
        if input_shape is None and input_tensor is None and not include_top:
            input_shape = (None, None, channels)
        model = build(
            default,
            input_shape=input_shape,
            input_tensor=input_tensor,
            classes=classes,
            include_top=include_top,
            pooling=None if include_top else pooling,
            classifier_activation=classifier_activation,
            pixel_stats=pixel_stats,
            name=name,
        )
        if weights == "imagenet" and published:
            weights = weight_files.PUBLISHED[published].fetch()
        if weights is not None:
            weight_files.load(model, weights, head=include_top)
        return model

    application.__name__ = application.__qualname__ = title
    application.__doc__ = f"""{title}: preset {preset!r} as keras.applications would.

    Args:
        include_top: whether to end in the classifier.
        weights: "imagenet" where Keras publishes them, the path of a file, or None.
        input_tensor: a Keras tensor to build on.
        input_shape: (height, width, channels); height and width may be None.
        pooling: without the classifier, None, "avg" or "max".
        classes: number of classes.
        classifier_activation: "softmax", or None for logits.
        name: of the model.
        pixel_stats: (mean, standard deviation) of each channel, to normalize inside
            the model; without them the caller preprocesses, as for Keras' own.

    Raises:
        UserError: sizes or weights that don't fit.
    """
    return application


ResNet50 = _application(
    "ResNet50",
    "keras_resnet50",
    "resnet50",
    "keras/resnet50",
)
ResNet101 = _application(
    "ResNet101",
    "keras_resnet101",
    "resnet101",
    "keras/resnet101",
)
ResNet152 = _application(
    "ResNet152",
    "keras_resnet152",
    "resnet152",
    "keras/resnet152",
)
ResNet50V2 = _application(
    "ResNet50V2",
    "keras_resnet50_v2",
    "resnet50v2",
    "keras/resnet50v2",
)
ResNet101V2 = _application(
    "ResNet101V2",
    "keras_resnet101_v2",
    "resnet101v2",
    "keras/resnet101v2",
)
ResNet152V2 = _application(
    "ResNet152V2",
    "keras_resnet152_v2",
    "resnet152v2",
    "keras/resnet152v2",
)

# Siblings that Keras lacks, in the papers' own form or torchvision's.
ResNet18 = _application("ResNet18", "resnet18", "resnet18")
ResNet34 = _application("ResNet34", "resnet34", "resnet34")
ResNet200V2 = _application("ResNet200V2", "resnet200_v2", "resnet200v2")
WideResNet50_2 = _application("WideResNet50_2", "wide_resnet50_2", "wide_resnet50_2")
WideResNet101_2 = _application(
    "WideResNet101_2", "wide_resnet101_2", "wide_resnet101_2"
)
WideResNet28_10 = _application("WideResNet28_10", "wrn_28_10", "wrn_28_10")
WideResNet40_4 = _application("WideResNet40_4", "wrn_40_4", "wrn_40_4")
ResNeXt50_32x4d = _application("ResNeXt50_32x4d", "resnext50_32x4d", "resnext50_32x4d")
ResNeXt101_32x4d = _application(
    "ResNeXt101_32x4d", "resnext101_32x4d", "resnext101_32x4d"
)
ResNeXt101_32x8d = _application(
    "ResNeXt101_32x8d", "resnext101_32x8d", "resnext101_32x8d"
)
ResNeXt101_64x4d = _application(
    "ResNeXt101_64x4d", "resnext101_64x4d", "resnext101_64x4d"
)


def __getattr__(name: str) -> Any:
    # Modules named as keras.applications'; they import from here.
    if name in ("resnet", "resnet50", "resnet_v2", "torchvision"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
