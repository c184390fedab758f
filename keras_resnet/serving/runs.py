"""A run folder as something to export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_resnet import files, runfolder
from keras_resnet.errors import RunFolderError
from keras_resnet.network import build
from keras_resnet.spec import ResNetSpec


def load_judged(folder: Path) -> tuple[Any, dict[str, Any]]:
    """A run's best model at the size that it is judged at, and its data's description.

    Raises:
        RunFolderError: not a run, one without a model yet, or damaged.
    """
    model, data = runfolder.load_best(folder)
    shape = tuple(data["image_shape"])
    if model.input_shape[1:] != shape:
        # Trained and judged at two sizes: the model's own is open.
        recipe = files.read_json(folder / runfolder.RECIPE)
        sized = build(
            ResNetSpec.from_dict(recipe["model"]),
            input_shape=shape,
            pixel_stats=data["pixel_stats"],
        )
        sized.set_weights(model.get_weights())
        model = sized
    return model, data


def read_samples(folder: Path, shape: Sequence[int]) -> np.ndarray | None:
    """The test images beside a run, uint8 (n, *shape)."""
    files = sorted((folder / runfolder.SAMPLES).glob("*.png"))
    images = [np.asarray(Image.open(file)).reshape(tuple(shape)) for file in files]
    return np.stack(images) if images else None


def describe_run(folder: Path) -> dict[str, Any]:
    """Which run a model came from, and its metrics as far as they are known.

    Raises:
        RunFolderError: its files are missing or damaged.
    """
    recipe, data, environment = (
        files.read_json(folder / name)
        for name in (runfolder.RECIPE, runfolder.DATA, runfolder.ENVIRONMENT)
    )
    if not all(isinstance(each, dict) for each in (recipe, data, environment)):
        raise RunFolderError(f"run: files of {folder} are damaged")
    result = folder / runfolder.RESULT
    return {
        "spec": recipe["model"],
        "run": {
            "folder": folder.resolve().name,
            "recipe": recipe["name"],
            "seed": data.get("seed"),
            "data": data.get("source"),
            "fingerprint": data.get("fingerprint"),
            "environment": environment,
        },
        "metrics": files.read_json(result) if result.exists() else {},
    }
