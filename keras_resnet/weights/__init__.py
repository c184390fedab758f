"""Weight files: fetched whole or not at all, loaded by name or refused in one line.

`load` takes what Keras, torchvision and timm write, `save` gives it back, and
`pretrained` builds a published network with its preprocessing inside.

On its way a file is found (`origins`, `download`), read (`formats`), given our layers'
names (`dialects`), compared (`fitting`) and assigned (`loading`).
"""

from __future__ import annotations

from keras_resnet.errors import WeightsError
from keras_resnet.weights.download import cache_folder, fetch
from keras_resnet.weights.loading import load, pretrained, save
from keras_resnet.weights.pushing import push
from keras_resnet.weights.zoo import PUBLISHED, Published, published

__all__ = [
    "PUBLISHED",
    "Published",
    "WeightsError",
    "cache_folder",
    "fetch",
    "load",
    "pretrained",
    "published",
    "push",
    "save",
]
