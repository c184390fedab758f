"""Weight files: fetched whole or not at all, loaded by name or refused in one line.

`load` takes what Keras, torchvision and timm write, `save` gives it back, and
`pretrained` builds a published network with its preprocessing inside.
"""

from __future__ import annotations

from keras_resnet.weights.download import cache_folder, fetch
from keras_resnet.weights.formats import WeightsError
from keras_resnet.weights.loading import load, save
from keras_resnet.weights.zoo import PUBLISHED, Published, pretrained, published

__all__ = [
    "PUBLISHED",
    "Published",
    "WeightsError",
    "cache_folder",
    "fetch",
    "load",
    "pretrained",
    "published",
    "save",
]
