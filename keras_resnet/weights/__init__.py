"""Weights in and out: strict, by name, from every published residual network."""

from keras_resnet.weights.download import cache_folder, fetch
from keras_resnet.weights.formats import WeightsError
from keras_resnet.weights.loading import load

__all__ = ["WeightsError", "cache_folder", "fetch", "load"]
