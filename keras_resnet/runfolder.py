"""What a run leaves on disk, and how it is written: whole files or none."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keras_resnet.errors import RunFolderError, one_line
from keras_resnet.files import DAMAGES, TEMPORARY, read_json, write_text

# What is in a run folder.
RECIPE = "recipe.json"  # how it was trained
DATA = "data.json"  # source, class names, pixel statistics
ENVIRONMENT = "environment.json"  # where it ran, seed
HISTORY = "history.jsonl"  # a line of metrics for each epoch
CHECKPOINT = "checkpoint"  # state to resume from
BEST = "best.keras"  # the model of the best epoch
CURVES = "curves.png"
CONFUSION = "confusion.png"
SAMPLES = "samples"  # some test images, to try predict on
EXPORT = "export"  # SavedModels, a folder for each version
RESULT = "result.json"  # final metrics; there once the run has ended

LOCK = ".lock"


class BusyError(RunFolderError):
    """A folder in which another process trains."""


def new_name(recipe: str) -> Path:
    """runs/<recipe>-<time>-<process>: of no other process, and free."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = Path("runs") / f"{recipe}-{stamp}-{os.getpid()}"
    return (
        path if not path.exists() else path.with_name(path.name + secrets.token_hex(2))
    )


def open_run(folder: Path, recipe: str) -> bool:
    """Makes `folder` ready for a run; True if it holds this run, unfinished.

    Args:
        folder: the run folder; made if missing.
        recipe: the recipe as JSON: an unfinished run of another isn't resumed.

    Raises:
        RunFolderError: it holds a finished run, another run, or something else.
    """
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"folder: {folder} is a file; name a new folder")
    if folder.is_dir() and _contents(folder):
        if not is_run(folder):
            raise RunFolderError(
                f"folder: {folder} exists and is not a run; name a new or empty folder"
            )
        if (folder / RESULT).exists():
            raise RunFolderError(
                f"folder: {folder} holds a finished run; name a new folder"
            )
        if (folder / RECIPE).read_text() != recipe:
            raise RunFolderError(
                f"folder: {folder} holds an unfinished run of another recipe; name a "
                "new folder"
            )
        return True
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / RECIPE, recipe)
    except OSError as error:
        raise RunFolderError(
            f"folder: can't write to {folder}: {error.strerror}"
        ) from None
    return False


def _contents(folder: Path) -> list[Path]:
    """What is in a folder but for what a kill left half written."""
    own = (TEMPORARY, LOCK)
    return [path for path in folder.iterdir() if not path.name.startswith(own)]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps a second process out of a run folder; a kill unlocks it.

    Raises:
        BusyError: another process trains in it.
    """
    try:
        file = (folder / LOCK).open("w")
    except OSError as error:
        raise RunFolderError(
            f"folder: can't write to {folder}: {error.strerror}"
        ) from None
    with file as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BusyError(
                f"folder: another process trains in {folder}; name a new folder"
            ) from None
        yield


def clear_leftovers(folder: Path) -> None:
    """Removes what a kill left half written."""
    for leftover in folder.rglob(f"{TEMPORARY}*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def is_run(folder: Path) -> bool:
    """Whether `folder` holds a run, finished or not."""
    return (folder / RECIPE).is_file()


def check_trained(folder: Path) -> None:
    """Refuses a folder without a trained model.

    Raises:
        RunFolderError: not a run, or none with a model yet.
    """
    if not is_run(folder):
        raise RunFolderError(
            f"run: {folder} is not a run folder"
            + ("" if folder.exists() else "; it doesn't exist")
        )
    if not (folder / BEST).is_file():
        raise RunFolderError(f"run: {folder} has no {BEST} yet; train it first")


def load_best(folder: Path) -> tuple[Any, dict[str, Any]]:
    """A run's best model, and what is known of its data.

    Raises:
        RunFolderError: not a run, one without a model yet, or damaged.
    """
    import keras

    check_trained(folder)
    described = read_json(folder / DATA)
    keys = {"arguments", "image_shape", "class_names"}
    if not isinstance(described, dict) or not keys <= set(described):
        raise RunFolderError(f"run: {folder / DATA} lacks {', '.join(sorted(keys))}")
    try:
        return keras.models.load_model(folder / BEST), described
    except DAMAGES as error:
        reason = one_line(error)
        raise RunFolderError(f"run: can't load {folder / BEST}: {reason}") from None
