"""Models for TF Serving: exports, their checks and configuration, and a client."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# The client needs no TensorFlow, unless it talks gRPC.
_HOMES = {
    "Answers": "client",
    "Client": "client",
    "ExportError": "exporting",
    "NativeModel": "native",
    "Served": "runtimes",
    "ServingError": "client",
    "describe": "runtimes",
    "describe_run": "runs",
    "docker_line": "server",
    "export": "exporting",
    "is_saved_model": "server",
    "load": "runtimes",
    "load_judged": "runs",
    "name_of": "server",
}

__all__ = [
    "Answers",
    "Client",
    "ExportError",
    "NativeModel",
    "Served",
    "ServingError",
    "describe",
    "describe_run",
    "docker_line",
    "export",
    "is_saved_model",
    "load",
    "load_judged",
    "name_of",
]

if TYPE_CHECKING:
    from keras_resnet.errors import ExportError
    from keras_resnet.serving.client import Answers, Client, ServingError
    from keras_resnet.serving.exporting import export
    from keras_resnet.serving.native import NativeModel
    from keras_resnet.serving.runs import describe_run, load_judged
    from keras_resnet.serving.runtimes import Served, describe, load
    from keras_resnet.serving.server import docker_line, is_saved_model, name_of


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
