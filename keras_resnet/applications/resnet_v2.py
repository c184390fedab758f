"""The names of `keras.applications.resnet_v2`."""

from keras.applications.resnet_v2 import preprocess_input

from keras_resnet.applications import ResNet50V2, ResNet101V2, ResNet152V2
from keras_resnet.applications.imagenet import decode_predictions

__all__ = [
    "ResNet50V2",
    "ResNet101V2",
    "ResNet152V2",
    "decode_predictions",
    "preprocess_input",
]
