"""Weight files of every format: read into arrays by the names that the file gives.

Nothing of a file is ever run: Keras' and safetensors' hold arrays, and of a pickle
only tensors are taken.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile, ZipFile

import h5py
import numpy as np

from keras_resnet.errors import UserError

Tensors = dict[str, np.ndarray]


class WeightsError(UserError):
    """Weights that can't be fetched or don't fit."""


class WeightFile(NamedTuple):
    """What a file holds.

    Attributes:
        tensors: arrays by name. Keras 3 gives "layer/0", older Keras "layer/kernel",
            torch "layer1.0.conv1.weight".
        layers: the configuration of each layer, where the file tells it.
    """

    tensors: Tensors
    layers: dict[str, dict[str, Any]]


def read(path: Path) -> WeightFile:
    """Reads a weight file by its suffix.

    Args:
        path: `.keras`, `.weights.h5`, keras.applications' `.h5`, `.safetensors`, or a
            `.pth`, `.pt` or `.bin` state dict, which needs torch.

    Raises:
        WeightsError: no such file, another format, or damaged.
    """
    if path.suffix not in READERS:
        raise WeightsError(
            f"weights: {path} is not one of {', '.join(READERS)} by its suffix"
        )
    if not path.is_file():
        raise WeightsError(f"weights: there is no file {path}")
    try:
        return READERS[path.suffix](path)
    except WeightsError:
        raise
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> WeightsError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return WeightsError(f"weights: can't read {path}: {reason}")


def _read_keras(path: Path) -> WeightFile:
    with ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
        with archive.open("model.weights.h5") as stored, h5py.File(stored) as file:
            return WeightFile(dict(_keras3(file)), _layer_configs(config))


def _read_h5(path: Path) -> WeightFile:
    with h5py.File(path) as file:
        if "layers" in file and "layer_names" not in file.attrs:
            return WeightFile(dict(_keras3(file)), {})
        config = json.loads(file.attrs.get("model_config", "{}"))
        group = file.get("model_weights", file)
        return WeightFile(dict(_keras2(group)), _layer_configs(config))


def _keras3(group: h5py.Group, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """ "layer/0": Keras 3 names a layer's group by its class and number.

    Since 3.8 the layer's own name stands beside; before, the group's is all there is.
    """
    for key, layer in group.get("layers", {}).items():
        variables = layer.get("vars", {})
        name = variables.attrs.get("name", key) if variables else key
        for index in variables:
            yield f"{prefix}{name}/{index}", variables[index][()]
        yield from _keras3(layer, f"{prefix}{name}/")


def _keras2(group: h5py.Group) -> Iterator[tuple[str, np.ndarray]]:
    for layer in group.attrs["layer_names"]:
        layer = layer.decode() if isinstance(layer, bytes) else layer
        for name in group[layer].attrs["weight_names"]:
            name = name.decode() if isinstance(name, bytes) else name
            weight = name.rsplit("/", 1)[-1].removesuffix(":0")
            yield f"{layer}/{weight}", group[layer][name][()]


def _layer_configs(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    layers = config.get("config", {}).get("layers", [])
    return {layer["config"]["name"]: layer["config"] for layer in layers}


def _read_safetensors(path: Path) -> WeightFile:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return WeightFile(load_file(path), {})
    except SafetensorError as error:
        raise _damaged(path, error) from None


def _read_torch(path: Path) -> WeightFile:
    torch = import_torch(path)
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise WeightsError(
            f"weights: {path} is damaged, or holds more than tensors; nothing in it "
            "was run"
        ) from None
    except (RuntimeError, EOFError) as error:  # cut off
        raise _damaged(path, error) from None
    for wrapper in ("state_dict", "model", "net"):
        if isinstance(stored, dict) and isinstance(stored.get(wrapper), dict):
            stored = stored[wrapper]
    if not isinstance(stored, dict) or not all(map(torch.is_tensor, stored.values())):
        raise WeightsError(f"weights: {path} holds no state dict: tensors by name")
    return WeightFile(
        {
            # DataParallel puts the network into a module of this name.
            name.removeprefix("module."): tensor.float().numpy()
            for name, tensor in stored.items()
        },
        {},
    )


def import_torch(path: Path) -> Any:
    """The torch package.

    Raises:
        WeightsError: it is not installed.
    """
    try:
        import torch
    except ImportError:
        raise WeightsError(
            f"weights: {path} needs torch, which is not installed; pip install torch, "
            "or convert the file to .safetensors where torch is"
        ) from None
    return torch


READERS: dict[str, Callable[[Path], WeightFile]] = {
    ".keras": _read_keras,
    ".h5": _read_h5,
    ".safetensors": _read_safetensors,
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".bin": _read_torch,
}
