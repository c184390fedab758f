"""Files of a training's state: written whole, checked when read, the last two kept."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_resnet import files
from keras_resnet.errors import RunFolderError
from keras_resnet.run import CHECKPOINT, RunWarning

FORMAT = 2  # 1 was Keras' weights file, which lacks random states
KEPT = 2  # the one before is there for when the last one is damaged


class Checkpoint(NamedTuple):
    """A training between two of its steps.

    Attributes:
        epoch: epochs done.
        step: steps done of the epoch under way; 0 at an epoch's end.
        seconds: that those steps took.
        rate: learning rate of the first of those steps.
        history: a row of metrics for each epoch done.
        arrays: all variables, in an order that the model gives.
        metrics: those of the metrics of the epoch under way.
    """

    epoch: int
    step: int
    seconds: float
    rate: float
    history: list[dict[str, float]]
    arrays: Sequence[np.ndarray]
    metrics: Sequence[np.ndarray] = ()


def write(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint of the run in `folder`; of those before, one is left.

    Raises:
        RunFolderError: the disk is full, or the folder can't be written to.
    """
    place = folder / CHECKPOINT
    name = f"{checkpoint.epoch:06}-{checkpoint.step:08}.npz"  # sorted by progress
    facts = {
        **checkpoint._asdict(),
        "format": FORMAT,
        "arrays": len(checkpoint.arrays),
        "metrics": len(checkpoint.metrics),
    }
    text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    numbered = enumerate([*checkpoint.arrays, *checkpoint.metrics])
    arrays: dict[str, Any] = {str(i): array for i, array in numbered}
    with files.replacing(place / name) as temporary, temporary.open("wb") as file:
        np.savez(file, facts=text, **arrays)
        file.close()
        files.seal(temporary)
    for path in sorted(place.glob("*.npz"))[:-KEPT]:
        path.unlink(missing_ok=True)


def position(folder: Path) -> tuple[int, int] | None:
    """Epochs, and steps of the next one, that the last checkpoint has; by its name."""
    names = sorted(path.stem for path in (folder / CHECKPOINT).glob("*.npz"))
    if not names:
        return None
    epoch, step = names[-1].split("-")
    return int(epoch), int(step)


def read_last(folder: Path) -> Checkpoint | None:
    """The last checkpoint of the run in `folder` that is whole; None without any.

    One that is damaged gives a warning, and is removed if there is one before.

    Raises:
        RunFolderError: all are damaged, or of another version of this package.
    """
    place = folder / CHECKPOINT
    if any(place.glob("epoch-*.weights.h5")):
        raise RunFolderError(
            f"folder: {folder} holds an unfinished run of an older version, whose "
            "checkpoints lack random states; name a new folder"
        )
    damaged: list[Path] = []
    for path in sorted(place.glob("*.npz"), reverse=True):
        try:
            found = _read(path)
        except RunFolderError:
            raise
        except ValueError as error:
            warnings.warn(f"run: {path} is damaged ({error})", RunWarning, stacklevel=2)
            damaged.append(path)
            continue
        for other in damaged:
            other.unlink()
        return found
    if damaged:
        raise RunFolderError(
            f"folder: no checkpoint of {folder} can be read; name a new folder"
        )
    return None


def _read(path: Path) -> Checkpoint:
    with files.reading(), files.open_npz(path) as file:
        facts: dict[str, Any] = json.loads(file["facts"].tobytes())
        version = facts.pop("format")
        if version != FORMAT:
            raise RunFolderError(
                f"run: {path} has format {version}, of another version of this "
                f"package; this one reads {FORMAT}. Name a new folder"
            )
        arrays = [file[str(i)] for i in range(facts["arrays"] + facts["metrics"])]
        metrics = arrays[facts["arrays"] :]
        arrays = arrays[: facts["arrays"]]
        return Checkpoint(**facts | {"arrays": arrays, "metrics": metrics})
