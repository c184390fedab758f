"""The names of `keras.applications.resnet50`."""

from keras.applications.resnet50 import decode_predictions, preprocess_input

from keras_resnet.applications import ResNet50

__all__ = ["ResNet50", "decode_predictions", "preprocess_input"]
