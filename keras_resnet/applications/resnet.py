"""The names of `keras.applications.resnet`."""

from keras.applications.resnet import preprocess_input

from keras_resnet.applications import ResNet50, ResNet101, ResNet152
from keras_resnet.applications.imagenet import decode_predictions

__all__ = [
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "decode_predictions",
    "preprocess_input",
]
