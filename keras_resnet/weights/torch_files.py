"""Files of torch's tensors, read and written. No code in them is run."""

from __future__ import annotations

import argparse
import importlib.util
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.errors import WeightsError, one_line

SAFETENSORS = ".safetensors"
# Endings of what `torch.save` writes.
PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".th", ".pth.tar", ".pt.tar")


def read(path: Path) -> Mapping[Any, Any]:
    """What a file holds: tensors by name, or where it is a pickle what torch saved.

    Raises:
        WeightsError: damaged, more than tensors, or torch is needed and not installed.
    """
    if path.name.lower().endswith(SAFETENSORS):
        return _safetensors(path)
    return _pickled(path)


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    import ml_dtypes  # numpy then knows bfloat16  # noqa: F401
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"weights: {path} is not a whole safetensors file: {one_line(error)}"
        ) from None


def _pickled(path: Path) -> Mapping[Any, Any]:
    """By torch, which reads tensors and plain values and refuses all else."""
    check_torch(f"{path} is")
    import torch

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
        raise WeightsError(f"weights: {path} is not a whole file of torch") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise WeightsError(
            f"weights: {path} is not a whole file of torch: {one_line(error)}"
        ) from None
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


def write(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict, as `.safetensors` or as `torch.save` does.

    Raises:
        WeightsError: torch is needed and not installed.
    """
    contiguous = {name: np.array(value, order="C") for name, value in tensors.items()}
    if path.name.lower().endswith(SAFETENSORS):
        from safetensors.numpy import save_file

        save_file(contiguous, path, metadata={"format": "pt"})
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
