"""Images for networks trained on ImageNet, and what their outputs mean.

As `keras.applications.imagenet_utils`, for all families here.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from keras.applications import imagenet_utils

from keras_resnet.errors import UserError, WeightsError, one_line
from keras_resnet.weights import cache_folder

Mode = Literal["caffe", "tf", "torch"]
CLASS_INDEX = "imagenet_class_index.json"
CLASS_INDEX_URL = (
    f"https://storage.googleapis.com/download.tensorflow.org/data/{CLASS_INDEX}"
)


def preprocess_input(x: Any, data_format: str | None = None, *, mode: Mode) -> Any:
    """Pixels from 0 to 255, red, green, blue, as a family's weights want them.

    `weights.pretrained` has it inside its models.

    Args:
        x: an image (height, width, 3) or a batch of them.
        data_format: as in keras.applications.
        mode: "caffe" for Keras' ResNet50 to 152 (blue, green, red, less the mean), "tf"
            for its V2 and timm's ResNetV2 (-1 to 1), "torch" for all others of
            torchvision and timm (ImageNet's mean and deviation).

    Raises:
        UserError: another mode.
    """
    if mode not in get_args(Mode):
        raise UserError(f"mode: {mode!r} is not one of 'caffe', 'tf', 'torch'")
    return imagenet_utils.preprocess_input(x, data_format=data_format, mode=mode)


def decode_predictions(preds: Any, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """The likeliest classes of ImageNet.

    Args:
        preds: (images, 1000) probabilities or logits.
        top: how many for each image.

    Returns:
        For each image the `top` classes (WordNet number, name, score), highest first.

    Raises:
        UserError: another shape, or the names can't be fetched.
    """
    shape = np.shape(preds)
    if len(shape) != 2 or shape[1] != 1000:
        raise UserError(
            f"preds: shape {shape} is not (images, 1000), ImageNet's classes"
        )
    try:
        decoded = imagenet_utils.decode_predictions(np.asarray(preds), top=top)
    except Exception as error:  # what Keras raises where there is no network
        raise WeightsError(
            f"weights: can't fetch the names of ImageNet's classes: {one_line(error)}; "
            f"put {CLASS_INDEX_URL} at {cache_folder() / CLASS_INDEX}"
        ) from None
    return decoded  # type: ignore[no-any-return]
