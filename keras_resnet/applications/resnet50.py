"""The names of `keras.applications.resnet50`."""

from keras.applications.resnet50 import preprocess_input

from keras_resnet.applications import ResNet50
from keras_resnet.applications.imagenet import decode_predictions

__all__ = ["ResNet50", "decode_predictions", "preprocess_input"]
