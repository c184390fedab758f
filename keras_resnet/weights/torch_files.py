"""Files of torch's tensors, read and written. No code in them is run."""

from __future__ import annotations

import argparse
import importlib.util
import json
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet import files, limits
from keras_resnet.errors import WeightsError

SAFETENSORS = ".safetensors"
STATS = "pixel_stats"  # in the file's metadata: JSON of means and deviations
# Endings of what `torch.save` writes.
PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".th", ".pth.tar", ".pt.tar")


def read(path: Path) -> Mapping[Any, Any]:
    """What a file holds: tensors by name, or where it is a pickle what torch saved.

    Raises:
        WeightsError: damaged, more than tensors, or torch is needed and not installed.
    """
    kind = "safetensors" if path.name.lower().endswith(SAFETENSORS) else "torch"
    if kind == "torch":
        check_torch(f"{path} is")
    try:
        with files.reading():
            limits.check_regular(path)
            limits.check_memory(2 * path.stat().st_size)
            return _safetensors(path) if kind == "safetensors" else _pickled(path)
    except ValueError as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(
            f"weights: {path} is not a whole {kind} file: {error}"
        ) from None


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    import ml_dtypes  # numpy then knows bfloat16  # noqa: F401
    from safetensors.numpy import load_file

    return load_file(path)


def read_pixel_stats(path: Path) -> tuple[list[float], list[float]] | None:
    """Mean and deviation of each channel by a `.safetensors`, where `write` was told.

    Raises:
        WeightsError: damaged.
    """
    from safetensors import safe_open

    try:
        with files.reading():
            limits.check_regular(path)
            with safe_open(path, framework="np") as opened:
                text = (opened.metadata() or {}).get(STATS)
            if text is None:
                return None
            mean, std = (list(map(float, numbers)) for numbers in json.loads(text))
            if len(mean) != len(std):
                raise ValueError(f"{STATS}: {len(mean)} means, {len(std)} deviations")
            return mean, std
    except ValueError as error:
        raise WeightsError(
            f"weights: {path} is not a whole safetensors file: {error}"
        ) from None


def _pickled(path: Path) -> Mapping[Any, Any]:
    """By torch, which reads tensors and plain values and refuses all else."""
    import torch

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            limits.check_memory(sum(each.file_size for each in archive.infolist()))
    try:
        # Training scripts keep their arguments so, and it only holds values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):
            raise WeightsError(
                f"weights: {path} holds more than tensors, which could run code when "
                "it is loaded: refused; if you trust it, save its state_dict alone in "
                "torch: safetensors.torch.save_file(state_dict, 'weights.safetensors')"
            ) from None
        raise
    arrays = _as_arrays(content, torch)
    if not isinstance(arrays, Mapping):
        raise WeightsError(f"weights: {path} holds no state dict of tensors")
    return arrays


def _as_arrays(content: Any, torch: Any) -> Any:
    """Tensors as arrays, at any depth of a dict."""
    if isinstance(content, Mapping):
        return {key: _as_arrays(value, torch) for key, value in content.items()}
    if not isinstance(content, torch.Tensor):
        return content
    tensor = content.detach()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def write(
    path: Path,
    tensors: Mapping[str, np.ndarray],
    pixel_stats: tuple[Sequence[float], Sequence[float]] | None = None,
) -> None:
    """Writes a state dict, as `.safetensors` or as `torch.save` does.

    Args:
        path: the file.
        tensors: by name.
        pixel_stats: mean and deviation of each channel, by which the network
            normalizes; a `.safetensors` keeps them in its metadata.

    Raises:
        WeightsError: torch is needed and not installed.
    """
    contiguous = {name: np.array(value, order="C") for name, value in tensors.items()}
    if path.name.lower().endswith(SAFETENSORS):
        from safetensors.numpy import save

        metadata = {"format": "pt"}
        if pixel_stats is not None:
            metadata[STATS] = json.dumps(pixel_stats)
        # `save_file` would leave a file that its owner alone may read.
        path.write_bytes(save(contiguous, metadata=metadata))
        return
    check_torch(f"{path.suffix} is")
    import torch

    torch.save(
        {name: torch.from_numpy(value) for name, value in contiguous.items()}, path
    )


def has_torch() -> bool:
    """Whether torch is installed."""
    return importlib.util.find_spec("torch") is not None


def check_torch(what: str) -> None:
    """Whether torch is there, which alone reads and writes its files.

    Raises:
        WeightsError: it is not installed.
    """
    if not has_torch():
        raise WeightsError(
            f"weights: {what} a pickle of torch's, which only torch reads safely: "
            "install torch (pip install 'keras-residual[torch]'), or have the weights "
            "as .safetensors, which needs nothing"
        )
