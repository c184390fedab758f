"""Residual networks for Keras 3 on TensorFlow: build, train, search, explain, serve.

Nothing heavy is imported until it is used.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import warnings
from typing import TYPE_CHECKING, Any

import wrapt

from keras_resnet.version import __version__ as __version__

_HOMES = {
    "PRESETS": "presets",
    "Cost": "cost",
    "Plan": "plan",
    "ResNetSpec": "spec",
    "SpecError": "errors",
    "build": "network",
    "features": "surgery",
    "cifar_resnet": "presets",
    "cifar_resnext": "presets",
    "estimate_cost": "cost",
    "get_spec": "presets",
    "list_networks": "presets",
    "make_plan": "plan",
    "wide_resnet": "presets",
}
_MODULES = (
    "analysis",
    "applications",
    "data",
    "experiments",
    "layers",
    "optimizers",
    "resnext",
    "runtime",
    "serving",
    "surgery",
    "tracking",
    "training",
    "weights",
)

__all__ = [
    "PRESETS",
    "Cost",
    "Plan",
    "ResNetSpec",
    "SpecError",
    "analysis",
    "applications",
    "build",
    "cifar_resnet",
    "cifar_resnext",
    "data",
    "estimate_cost",
    "experiments",
    "features",
    "get_spec",
    "layers",
    "list_networks",
    "make_plan",
    "optimizers",
    "resnext",
    "runtime",
    "serving",
    "surgery",
    "tracking",
    "training",
    "weights",
    "wide_resnet",
]

if TYPE_CHECKING:
    from keras_resnet import (
        analysis,
        applications,
        data,
        experiments,
        layers,
        optimizers,
        resnext,
        runtime,
        serving,
        surgery,
        tracking,
        training,
        weights,
    )
    from keras_resnet.cost import Cost, estimate_cost
    from keras_resnet.errors import SpecError
    from keras_resnet.network import build
    from keras_resnet.plan import Plan, make_plan
    from keras_resnet.presets import (
        PRESETS,
        cifar_resnet,
        cifar_resnext,
        get_spec,
        list_networks,
        wide_resnet,
    )
    from keras_resnet.spec import ResNetSpec
    from keras_resnet.surgery import features


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def _register(_: Any) -> None:
    for module in ("layers", "losses", "optimizers", "recompute"):
        importlib.import_module(f"{__name__}.{module}")


# Keras loads a `.keras` file with our classes only once they are registered: now if it
# is imported already, else as soon as it is.
wrapt.register_post_import_hook(_register, "keras")

try:
    _other = importlib.metadata.version("keras-resnet")
except importlib.metadata.PackageNotFoundError:
    pass
else:
    warnings.warn(
        f"the distribution keras-resnet {_other}, another project, is installed beside "
        "keras-residual and has the same import name: the files of one overwrite the "
        "other's. Run: pip uninstall keras-resnet keras-residual && "
        "pip install keras-residual",
        stacklevel=2,
    )
