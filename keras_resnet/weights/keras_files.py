"""Files of Keras' weights -> arrays by layer. No code in them is run."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_resnet import files, hdf5, limits
from keras_resnet.errors import WeightsError
from keras_resnet.plan import stage_of
from keras_resnet.weights.state_dicts import as_float

SUFFIXES = (".keras", ".h5")
HEAD = "predictions"


class Layers(NamedTuple):
    """What a Keras file holds: arrays of each layer, in the layer's order.

    Attributes:
        arrays: by the layer's name or, if `named` is False, by Keras' path of it.
        named: older files of Keras 3 tell no names.
        configs: of each layer by its name, of a file that holds the whole model.
    """

    arrays: dict[str, list[np.ndarray]]
    named: bool
    configs: Mapping[str, Mapping[str, Any]] = {}


# The classifier of keras.applications' networks when its files were written.
_RENAMED = {"probs": HEAD}


def read(path: Path, most: int | None = None) -> Layers:
    """A `.keras`, a `.weights.h5` or a legacy `.h5` as keras.applications has them.

    Args:
        path: the file.
        most: bytes that its arrays may have together; None for the free memory.

    Raises:
        WeightsError: damaged, none of these, too large, it leads to other files, or its
            numbers aren't real and finite.
    """
    try:
        with files.reading():
            limits.check_regular(path)
            found = _read(path, most)
    except ValueError as error:
        raise WeightsError(
            f"weights: {path} is not a whole file of Keras weights: {error}"
        ) from None
    return found._replace(
        arrays={
            layer: [
                as_float(value, f"{layer}/{i}", path) for i, value in enumerate(each)
            ]
            for layer, each in found.arrays.items()
        }
    )


def _read(path: Path, most: int | None) -> Layers:
    import h5py

    if path.name.lower().endswith(".keras"):
        files.check_seal(path)
        with zipfile.ZipFile(path) as archive:
            config = json.loads(limits.read_member(archive, "config.json"))
        with hdf5.rewritten(path, ".h5", most) as copy, h5py.File(copy) as file:
            return _of_keras_3(file)._replace(configs=dict(_configs(config)))
    with hdf5.rewritten(path, ".h5", most) as copy, h5py.File(copy) as file:
        legacy = file.get("model_weights", file)  # a whole model's, or weights'
        if "layer_names" in legacy.attrs:
            config = json.loads(file.attrs.get("model_config", "{}"))
            return _of_keras_2(Layers(_of_legacy(legacy), True, dict(_configs(config))))
        return _of_keras_3(file)


def read_pixel_stats(path: Path) -> tuple[list[float], list[float]] | None:
    """Mean and deviation of each channel by a file that holds a whole model of ours.

    Raises:
        WeightsError: as for `read`.
    """
    config = read(path).configs.get("pixel_stats", {})
    if "mean" not in config or "variance" not in config:
        return None
    mean, std = np.ravel(config["mean"]), np.sqrt(np.ravel(config["variance"]))
    return mean.tolist(), std.tolist()


def _configs(model: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and configurations of layers, those of nested models too."""
    for layer in model.get("config", {}).get("layers", []):
        config = layer["config"]
        name = config["name"]
        yield name, config
        if not stage_of(name):
            yield from _configs(layer)


def _of_keras_3(file: Any) -> Layers:
    """Groups `layers/<kind>/vars/<i>`, of nested models' layers too.

    The optimizer's are left out. A nested model that stands where a layer stood, as
    `surgery.to_stock` makes of a gate, has its weights under its own name.
    """
    arrays: dict[str, list[np.ndarray]] = {}
    names: dict[str, str] = {}

    def visit(path: str, group: Any) -> None:
        if not isinstance(group, type(file["/"])):
            return
        if path.startswith("layers/") and path.endswith("/vars"):
            key = path.removeprefix("layers/").removesuffix("/vars")
            if len(group):
                arrays[key] = [group[str(i)][()] for i in range(len(group))]
            if "name" in group.attrs:
                names[key] = str(group.attrs["name"])

    file.visititems(visit)
    if not arrays:
        raise ValueError("it has no layers with weights")
    if not arrays.keys() <= names.keys():
        return Layers(arrays, named=False)
    named = {}
    for key, value in arrays.items():
        outer = names.get(key.rpartition("/layers/")[0], "")
        named[outer if stage_of(outer) else names[key]] = value
    return Layers(named, named=True)


def _of_legacy(file: Any) -> dict[str, list[np.ndarray]]:
    """Groups of layers, with the names of their weights: `<layer>/kernel:0`."""
    arrays: dict[str, list[np.ndarray]] = {}
    for name in map(_text, file.attrs["layer_names"]):
        group = file[name]
        weights = [_text(weight) for weight in group.attrs["weight_names"]]
        for weight in weights:
            *_, owner = ["", *weight.split("/")[:-1]]
            # Of a nested model the group has the weights of all its layers.
            layer = name if stage_of(name) or not owner else owner
            arrays.setdefault(_RENAMED.get(layer, layer), []).append(group[weight][()])
    return arrays


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


# As in keras-applications for Keras 2: res2a_branch2b, bn2a_branch1, res3b7_branch2a.
_KERAS_2 = re.compile(r"(res|bn)(\d)([a-z])(\d*)_branch(?:1|2([abc]))")
_KERAS_2_NAMES = {
    "conv1": "conv1_conv",
    "bn_conv1": "conv1_bn",
    "fc1000": "predictions",
}


def _of_keras_2(found: Layers) -> Layers:
    """The names of today for those of Keras 2's ResNet-50.

    A file of weights alone doesn't tell what these networks have: strides on the first
    1x1 convolution and Keras' usual epsilon of 1e-3.
    """
    if not any(map(_KERAS_2.fullmatch, found.arrays)):
        return found
    arrays = {_keras_2_name(name): value for name, value in found.arrays.items()}
    configs = {_keras_2_name(name): value for name, value in found.configs.items()}
    if not configs:
        configs = {n: {"epsilon": 1e-3} for n in arrays if n.endswith("_bn")}
        for stage in (3, 4, 5):
            name = f"conv{stage}_block1"
            configs[f"{name}_1_conv"] = {"strides": (2, 2)}
            configs[f"{name}_2_conv"] = {"strides": (1, 1)}
    return Layers(arrays, True, configs)


def _keras_2_name(name: str) -> str:
    match = _KERAS_2.fullmatch(name)
    if not match:
        return _KERAS_2_NAMES.get(name, name)
    kind, stage, letter, number, conv = match.groups()
    block = int(number) + 1 if number else ord(letter) - ord("a") + 1
    place = "abc".index(conv) + 1 if conv else 0
    return f"conv{stage}_block{block}_{place}_{'conv' if kind == 'res' else 'bn'}"
