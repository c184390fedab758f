"""Files of weights -> arrays by name, whatever wrote them. No code in them is run."""

from __future__ import annotations

import importlib.util
import io
import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_resnet.errors import WeightsError, one_line

KERAS = (".keras", ".h5")
TORCH = (".safetensors", ".pth", ".pt", ".bin")


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
_RENAMED = {"probs": "predictions"}


def read_keras(path: Path) -> Layers:
    """A `.keras`, a `.weights.h5` or a legacy `.h5` as keras.applications has them.

    Raises:
        WeightsError: missing, damaged, or none of these.
    """
    import h5py

    _check_exists(path)
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                content = io.BytesIO(archive.read("model.weights.h5"))
                configs = _configs(archive.read("config.json"))
            with h5py.File(content) as file:
                return _of_keras_3(file)._replace(configs=configs)
        with h5py.File(path) as file:
            legacy = file.get("model_weights", file)  # a whole model's, or weights'
            if "layer_names" in legacy.attrs:
                configs = _configs(file.attrs.get("model_config", "{}"))
                return Layers(_of_legacy(legacy), True, configs)
            return _of_keras_3(file)
    except (
        AttributeError,
        KeyError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
        zipfile.BadZipFile,
    ) as error:
        raise WeightsError(
            f"weights: {path} is not a whole file of Keras weights: {one_line(error)}"
        ) from None


def _configs(model: str | bytes) -> dict[str, dict[str, Any]]:
    layers = json.loads(model).get("config", {}).get("layers", [])
    return {layer["config"]["name"]: layer["config"] for layer in layers}


def _of_keras_3(file: Any) -> Layers:
    """Groups `layers/<kind>/vars/<i>`, of nested layers too; not the optimizer's.

    A nested model of one layer with weights, as `surgery.to_stock` makes of a gate,
    has them under its own name.
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
    for key in list(arrays):
        outer, nested, _ = key.partition("/layers/")
        if nested and outer not in arrays:
            arrays[outer] = arrays.pop(key)
    if not arrays:
        raise ValueError("it has no layers with weights")
    if not arrays.keys() <= names.keys():
        return Layers(arrays, named=False)
    return Layers({names[key]: value for key, value in arrays.items()}, named=True)


def _of_legacy(file: Any) -> dict[str, list[np.ndarray]]:
    arrays = {}
    for name in map(_text, file.attrs["layer_names"]):
        group = file[name]
        found = [group[_text(weight)][()] for weight in group.attrs["weight_names"]]
        if found:
            arrays[_RENAMED.get(name, name)] = found
    return arrays


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """A state dict, float32: `.safetensors`, or `.pth` as torch saves it.

    A `.pth` is a pickle: torch reads its tensors and refuses all else. The dict may be
    inside a checkpoint's "state_dict" or "model", its names under "module.".

    Raises:
        WeightsError: missing, damaged, none of these, or torch is not installed.
    """
    _check_exists(path)
    tensors = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    return {
        name.removeprefix("module."): value.astype("float32")
        for name, value in tensors.items()
        if not name.endswith("num_batches_tracked")
    }


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise WeightsError(
            f"weights: {path} is not a whole safetensors file: {one_line(error)}"
        ) from None


def _pickled(path: Path) -> dict[str, np.ndarray]:
    check_torch(f"{path} is")
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):
            raise WeightsError(
                f"weights: {path} holds more than tensors, which could run code when "
                "it is loaded: refused; save its state_dict alone"
            ) from None
        raise WeightsError(f"weights: {path} is not a whole file of torch") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise WeightsError(
            f"weights: {path} is not a whole file of torch: {one_line(error)}"
        ) from None
    for wrapper in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    tensors = content.items() if isinstance(content, Mapping) else ()
    found = {
        str(name): value.detach().float().numpy()
        for name, value in tensors
        if isinstance(value, torch.Tensor)
    }
    if not found:
        raise WeightsError(f"weights: {path} holds no state dict of tensors")
    return found


def write_torch(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict, as `.safetensors` or `.pth`.

    Raises:
        WeightsError: torch is not installed and needed.
    """
    contiguous = {name: np.array(value, order="C") for name, value in tensors.items()}
    if path.suffix == ".safetensors":
        from safetensors.numpy import save_file

        save_file(contiguous, path, metadata={"format": "pt"})
        return
    check_torch(f"{path.suffix} is")
    import torch

    torch.save(
        {name: torch.from_numpy(value) for name, value in contiguous.items()}, path
    )


def check_torch(what: str) -> None:
    """Whether torch is there, which alone reads and writes its files.

    Raises:
        WeightsError: it is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise WeightsError(
            f"weights: {what} torch's: install torch (pip install "
            "'keras-residual[torch]'), or use .safetensors"
        )


def _check_exists(path: Path) -> None:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "doesn't exist"
        raise WeightsError(f"weights: file {path} {what}")
