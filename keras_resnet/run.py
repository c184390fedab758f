"""A run: a folder with how a network was trained, and what came of it.

Whoever reads a run does it by `Run`. Files are written whole or not at all, and one
process at a time trains in a folder. No TensorFlow at import.
"""

from __future__ import annotations

import io
import os
import re
import secrets
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from keras_resnet import data as data_module
from keras_resnet.data import sources
from keras_resnet.errors import RunFolderError, UserError, one_line
from keras_resnet.files import (
    TEMPORARY,
    load_keras,
    read_json,
    read_lines,
    reading,
    write_text,
)
from keras_resnet.limits import (
    LimitError,
    check_names,
    clean,
    read_file,
    read_text,
)
from keras_resnet.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np

# What is in a run folder.
RECIPE = "recipe.json"  # how it was trained
DATA = "data.json"  # source, class names, pixel statistics
ENVIRONMENT = "environment.json"  # where it ran, seed
HISTORY = "history.jsonl"  # a line of metrics for each epoch
CHECKPOINT = "checkpoint"  # state to resume from
BEST = "best.keras"  # the model of the best epoch
CURVES = "curves.png"
AUGMENTED = "augmented.png"  # some training images, as they are changed
PAGE = "report.html"  # all of it, for the reader
CONFUSION = "confusion.png"
LABELS = "labels.png"  # in its place, of several labels
VALUES = "values.png"  # of a regression
TRAINED_ON = "trained_on.npy"  # digests of its training images, and of older ones
SAMPLES = "samples"  # some test images, to try predict on
EXPORT = "export"  # SavedModels, a folder for each version
RESULT = "result.json"  # final metrics; there once the run has ended

LOCK = ".lock"

_DATA_KEYS = {"arguments", "image_shape", "class_names"}  # that every reader needs


class BusyError(RunFolderError):
    """A folder in which another process trains."""


class RunWarning(UserWarning):
    """Something about a run that is worth a look, on one line."""


def new_folder(name: str) -> Path:
    """runs/<name>-<time>-<process>: of no other process, and free."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = Path("runs") / f"{name}-{stamp}-{os.getpid()}"
    return (
        path if not path.exists() else path.with_name(path.name + secrets.token_hex(2))
    )


class Run:
    """A run folder. Its files are read when they are asked for.

    Every property raises a `RunFolderError` where its file is missing or damaged.

    Args:
        folder: need not exist; `open` makes it.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    @property
    def exists(self) -> bool:
        """Whether the folder holds a run, finished or not."""
        return (self.folder / RECIPE).is_file()

    @property
    def is_finished(self) -> bool:
        """Whether it has been trained to its end and tested."""
        return (self.folder / RESULT).exists()

    @property
    def unfinished(self) -> str | None:
        """How far an unfinished run has come, such as "epoch 4 of 8"; else None."""
        done, epochs = len(self.history), self.recipe.epochs
        if self.is_finished or done == epochs:
            return None
        return f"epoch {done} of {epochs}"

    @property
    def recipe(self) -> Recipe:
        """How it is trained."""
        path = self.folder / RECIPE
        try:
            text = read_text(path)
        except (OSError, ValueError) as error:
            raise RunFolderError(f"run: can't read {path}: {one_line(error)}") from None
        return Recipe.from_json(text)

    @property
    def data(self) -> dict[str, Any]:
        """What is known of its data: source, arguments, classes, shape, statistics."""
        data = self._read(DATA)
        if not data.keys() >= _DATA_KEYS:
            keys = ", ".join(sorted(_DATA_KEYS))
            raise RunFolderError(f"run: {self.folder / DATA} lacks {keys}")
        for key, kind, told in (
            ("arguments", dict, "object"),
            ("weights", str, "text"),
        ):
            if not isinstance(data.get(key), kind | None):
                raise RunFolderError(
                    f"run: {self.folder / DATA}: {key}: {data[key]!r} is no {told}"
                )
        if data["class_names"] is not None:  # which are shown in terminals
            if not isinstance(data["class_names"], list):
                raise RunFolderError(f"run: {self.folder / DATA} has no class_names")
            names = data["class_names"] = [clean(str(n)) for n in data["class_names"]]
            try:
                check_names(names)
            except LimitError as error:
                raise RunFolderError(f"run: {self.folder / DATA}: {error}") from None
        return data

    @property
    def environment(self) -> dict[str, Any]:
        """Where it ran."""
        return self._read(ENVIRONMENT)

    @property
    def history(self) -> list[dict[str, Any]]:
        """A row of metrics for each epoch; none before the first has ended."""
        return read_lines(self.folder / HISTORY)

    @property
    def result(self) -> dict[str, Any]:
        """Test metrics and seconds of training; of an unfinished run an error."""
        return self._read(RESULT)

    def _read(self, name: str) -> dict[str, Any]:
        value = read_json(self.folder / name)
        if not isinstance(value, dict):
            raise RunFolderError(f"run: {self.folder / name} is not a JSON object")
        return value

    def check_exists(self) -> None:
        """Refuses a folder that is no run's.

        Raises:
            RunFolderError: it isn't.
        """
        if not self.exists:
            raise RunFolderError(
                f"run: {self.folder} is not a run folder"
                + ("" if self.folder.exists() else "; it doesn't exist")
            )

    def check_trained(self) -> None:
        """Refuses a folder without a trained model.

        Raises:
            RunFolderError: not a run, or none with a model yet.
        """
        self.check_exists()
        if not (self.folder / BEST).is_file():
            raise RunFolderError(
                f"run: {self.folder} has no {BEST} yet; train it first"
            )

    def check_data(self, source: str | None = None) -> None:
        """Refuses a run whose data isn't there, before anything is loaded.

        Args:
            source: where it is now, if not where it was.

        Raises:
            RunFolderError: its data was given as arrays.
            DataError: it is not there.
        """
        arguments = self.data["arguments"]
        if source is None and arguments is None:
            raise RunFolderError(
                f"run: {self.folder} was trained on data that is not by name"
            )
        sources.find(source or arguments["source"], self.recipe.task)

    def warn_unfinished(self) -> None:
        """Says that the best model is that of a training which hasn't ended."""
        if self.exists and (progress := self.unfinished):
            warnings.warn(
                f"run: {self.folder} is unfinished, at {progress}: its best model so "
                "far is taken",
                RunWarning,
                stacklevel=3,
            )

    def load_model(self, *, at_test_size: bool = False) -> Any:
        """The model of the best epoch.

        Args:
            at_test_size: whether a network that was trained and tested at two sizes,
                whose own is open, takes images of the second alone.

        Raises:
            RunFolderError: not a run, one without a model yet, or damaged.
        """
        self.check_trained()
        data = self.data
        try:
            model = load_keras(self.folder / BEST)
        except ValueError as error:
            raise RunFolderError(
                f"run: can't load {self.folder / BEST}: {one_line(error)}"
            ) from None
        names, outputs = data["class_names"], model.output_shape[-1]
        if names is not None and self.recipe.task == "binary" and outputs == 1:
            outputs = 2
        if names is not None and len(names) != outputs:
            raise RunFolderError(
                f"run: {self.folder / DATA} has {len(names)} class_names, its {BEST} "
                f"answers for {outputs}"
            )
        shape = tuple(data["image_shape"])
        if at_test_size and model.input_shape[1:] != shape:
            from keras_resnet.network import build

            sized = build(
                self.recipe.model,
                input_shape=shape,
                pixel_stats=data["pixel_stats"],
                target_stats=data.get("target_stats"),
            )
            sized.set_weights(model.get_weights())
            return sized
        return model

    def load_splits(self, **moved: Any) -> data_module.Splits:
        """The splits that it was trained on.

        Args:
            **moved: `source` or `data_dir` for `data.load`, where that has changed.

        Raises:
            RunFolderError: its data was given as arrays, or has changed since: then
                images that it learnt from may be among those of the test.
            DataError: its data is not there.
        """
        described = self.data
        if described["arguments"] is None:
            raise RunFolderError(
                f"run: {self.folder} was trained on data that is not by name"
            )
        arguments = described["arguments"] | moved
        splits = data_module.load(**arguments)
        if splits.fingerprint != described.get("fingerprint", splits.fingerprint):
            raise RunFolderError(
                f"run: {arguments['source']} has changed since {self.folder} was "
                "trained, which may have learnt from what are test images now"
            )
        return splits

    def trained_on(self) -> np.ndarray | None:
        """Digests of all images that its model was trained on, 16 bytes each.

        Those of the runs whose weights it started from are among them. None where that
        isn't known: of streams, of data that is gone.
        """
        import numpy as np

        path = self.folder / TRAINED_ON
        if path.exists():
            try:
                with reading():
                    rows: np.ndarray = np.load(io.BytesIO(read_file(path)))
                    return rows.view("V16").reshape(-1)
            except ValueError as error:
                raise RunFolderError(f"run: can't read {path}: {error}") from None
        before = np.zeros(0, "V16")
        try:  # of a run that didn't write it
            own = self.load_splits().digests["train"]
            file = (self.data.get("weights") or "").rpartition(" sha256:")[0]
            if file and (older := Run(Path(file).parent)).exists:
                found = older.trained_on()
                if found is None:
                    return None
                before = found
        except (UserError, OSError):
            return None
        return np.concatenate([own, before]) if len(own) else None

    def read_samples(self) -> np.ndarray | None:
        """The test images beside it, uint8 (n, height, width, channels)."""
        import numpy as np
        from PIL import Image

        sides = self.data["image_shape"]
        images = []
        try:
            with reading():
                shape = tuple(map(int, sides))
                for path in sorted((self.folder / SAMPLES).glob("*.png")):
                    image = Image.open(io.BytesIO(read_file(path)))
                    if image.size != (shape[1], shape[0]):
                        raise ValueError(f"{path.name} is not of {shape}")
                    images.append(np.asarray(image).reshape(shape))
        except ValueError as error:
            raise RunFolderError(
                f"run: can't read {self.folder / SAMPLES}: {error}"
            ) from None
        return np.stack(images) if images else None

    def describe(self) -> dict[str, Any]:
        """Spec, origin and metrics, as far as they are known: what an export tells."""
        recipe, data = self.recipe, self.data
        return {
            "spec": recipe.model.to_dict(),
            "run": {
                "folder": self.folder.resolve().name,
                "recipe": recipe.name,
                "seed": data.get("seed"),
                "data": data.get("source"),
                "fingerprint": data.get("fingerprint"),
                "environment": self.environment,
                **({"unfinished": progress} if (progress := self.unfinished) else {}),
            },
            "metrics": self.result if self.is_finished else {},
        }

    def open(self, recipe: Recipe, *, resume: bool = True) -> bool:
        """Makes the folder ready for training; True if it holds this run, unfinished.

        Args:
            recipe: to train by.
            resume: whether an unfinished run may be continued.

        Raises:
            RunFolderError: it holds a finished run, another run, or something else.
        """
        folder = self.folder
        self.check_free(resume=resume)
        if self.exists:
            if other := recipe.differences(self._read(RECIPE)):
                raise RunFolderError(
                    f"folder: {folder} holds an unfinished run of another recipe "
                    f"(another {', '.join(other)}); name a new folder"
                )
            return True
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / RECIPE, recipe.to_json())
        except OSError as error:
            raise RunFolderError(
                f"folder: can't write to {folder}: {error.strerror}"
            ) from None
        return False

    def check_free(self, *, resume: bool = True) -> None:
        """Refuses a folder in which no run can be begun or resumed.

        Args:
            resume: whether an unfinished run may be.

        Raises:
            RunFolderError: it holds a finished run or something else.
        """
        folder = self.folder
        if folder.exists() and not folder.is_dir():
            raise RunFolderError(f"folder: {folder} is a file; name a new folder")
        if self.exists and self.is_finished:
            raise RunFolderError(
                f"folder: {folder} holds a finished run; name a new folder"
            )
        if self.exists and not resume:
            raise RunFolderError(
                f"folder: {folder} holds an unfinished run; name a new folder, or let "
                "it be resumed"
            )
        if folder.is_dir() and not self.exists and _contents(folder):
            raise RunFolderError(
                f"folder: {folder} exists and is not a run; name a new or empty folder"
            )

    def clear_leftovers(self) -> None:
        """Removes what a kill left half written. For who has the lock."""
        for leftover in self.folder.rglob(f"{TEMPORARY}*"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()

    @property
    def locked_by(self) -> int | None:
        """The process that trains in it, 0 if not told; asking must not lock it."""
        try:
            inode = (self.folder / LOCK).stat().st_ino
            locks = Path("/proc/locks").read_text("utf-8")
        except OSError:
            return None
        found = re.search(rf" (-?\d+) [0-9a-f]+:[0-9a-f]+:{inode} ", locks)
        return max(int(found[1]), 0) if found else None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps a second process out of the folder; a kill unlocks it.

        Raises:
            BusyError: another process trains in it.
        """
        lock = FileLock(self.folder / LOCK, blocking=False)
        try:
            lock.acquire()
        except Timeout:
            pid = self.locked_by
            which = f" (process {pid})" if pid else ""
            raise BusyError(
                f"folder: another process trains in {self.folder}{which}; wait until "
                "it ends, or name a new folder"
            ) from None
        except OSError as error:
            raise RunFolderError(
                f"folder: can't write to {self.folder}: {error.strerror}"
            ) from None
        try:
            yield
        finally:
            lock.release()


def _contents(folder: Path) -> list[Path]:
    """What is in a folder but for what a kill left half written."""
    own = (TEMPORARY, LOCK)
    return [path for path in folder.iterdir() if not path.name.startswith(own)]
