"""Families that Keras lacks, with images as torchvision and timm prepare them."""

from __future__ import annotations

from typing import Any

from keras_resnet.applications import (
    ResNet18,
    ResNet34,
    ResNeXt50_32x4d,
    ResNeXt101_32x4d,
    ResNeXt101_32x8d,
    ResNeXt101_64x4d,
    WideResNet50_2,
    WideResNet101_2,
    imagenet,
)
from keras_resnet.applications.imagenet import decode_predictions

__all__ = [
    "ResNeXt50_32x4d",
    "ResNeXt101_32x4d",
    "ResNeXt101_32x8d",
    "ResNeXt101_64x4d",
    "ResNet18",
    "ResNet34",
    "WideResNet50_2",
    "WideResNet101_2",
    "decode_predictions",
    "preprocess_input",
]


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """Pixels from 0 to 255 less ImageNet's mean, over its deviation."""
    return imagenet.preprocess_input(x, data_format, mode="torch")
