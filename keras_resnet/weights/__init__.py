"""Weight files: fetched whole or not at all, loaded by name or refused in one line.

`load` takes what Keras, torchvision and timm write, `save` gives it back, and
`pretrained` builds a published network with its preprocessing inside.

On its way a file is found (`origins`, `download`), read (`formats`), given our layers'
names (`dialects`), compared (`fitting`) and assigned (`loading`).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_resnet.errors import WeightsError
    from keras_resnet.weights.download import cache_folder, fetch
    from keras_resnet.weights.loading import load, pretrained, save
    from keras_resnet.weights.pushing import push
    from keras_resnet.weights.zoo import PUBLISHED, Published, published

_HOMES = {
    "PUBLISHED": "weights.zoo",
    "Published": "weights.zoo",
    "WeightsError": "errors",
    "cache_folder": "weights.download",
    "fetch": "weights.download",
    "load": "weights.loading",
    "pretrained": "weights.loading",
    "published": "weights.zoo",
    "push": "weights.pushing",
    "save": "weights.loading",
}

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


def __getattr__(name: str) -> Any:
    # What a source is (`origins`) is known without Keras and TensorFlow.
    if name in _HOMES:
        return getattr(importlib.import_module(f"keras_resnet.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
