"""The names of `keras.applications.resnet`."""

from keras.applications.resnet import decode_predictions, preprocess_input

from keras_resnet.applications import ResNet50, ResNet101, ResNet152

__all__ = [
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "decode_predictions",
    "preprocess_input",
]
