"""What happens at the end of each epoch."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeft

from keras_resnet import runfolder
from keras_resnet.errors import UserError
from keras_resnet.tracking import Tracker

if TYPE_CHECKING:
    from keras_resnet.training.recipes import Recipe


class TrainingError(UserError):
    """A training that can't go on."""


class RunState(keras.callbacks.Callback):
    """Keeps history, best model and resume state in a run folder.

    Continues where the folder's checkpoint ends. Every file is written by renaming, in
    an order in which a kill at any moment costs at most the epoch under way.

    Args:
        folder: the run folder; made if missing.
        recipe: its recipe.

    Raises:
        RunFolderError: the folder holds a finished run, another run or no run.
    """

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        super().__init__()
        if runfolder.prepare(folder, recipe.to_json()):
            runfolder.clear_leftovers(folder)
        self.folder = folder
        self.history: list[dict[str, float]] = []
        self.started = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        """Restores weights, optimizer and epoch, if there is a checkpoint."""
        checkpoints = self._checkpoints()
        done = max(checkpoints, default=0)
        if done:
            self.model.optimizer.build(self.model.trainable_variables)
            try:
                self.model.load_weights(checkpoints[done])
            except (ValueError, OSError, KeyError) as error:
                raise runfolder.RunFolderError(
                    f"run: can't load {checkpoints[done]}: {error}"
                ) from None
            # As Keras' own BackupAndRestore starts `fit` at a later epoch.
            self.model._initial_epoch = done
        # An epoch may have been written down and not checkpointed.
        rows = runfolder.read_lines(self.folder / runfolder.HISTORY)
        self.history = rows[:done]
        if done and self._is_best():
            self._save_best()  # in case the kill came just before it was

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock."""
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves the model if it is the best, history, and state to resume."""
        row = {"epoch": epoch + 1, "seconds": time.perf_counter() - self.started}
        row |= _floats(logs)
        if not all(math.isfinite(value) for value in row.values()):
            raise TrainingError(
                f"training diverged in epoch {epoch + 1}: its loss is not a number; "
                "try a lower learning_rate or more warmup_epochs. The folder keeps the "
                "epochs before"
            )
        self.history.append(row)
        runfolder.write_lines(self.folder / runfolder.HISTORY, self.history)
        old = self._checkpoints()
        path = self.folder / runfolder.CHECKPOINT / f"epoch-{epoch + 1}.weights.h5"
        path.parent.mkdir(exist_ok=True)
        with runfolder.replacing(path) as temporary:
            self.model.save_weights(temporary)  # with the optimizer's state
        for epoch_done, checkpoint in old.items():
            if epoch_done != epoch + 1:
                checkpoint.unlink()
        if self._is_best():
            self._save_best()

    def _is_best(self) -> bool:
        """Whether the last epoch is as good as any."""
        return all(_score(self.history[-1]) >= _score(row) for row in self.history)

    def _save_best(self) -> None:
        with runfolder.replacing(self.folder / runfolder.BEST) as temporary:
            self.model.save(temporary)

    def _checkpoints(self) -> dict[int, Path]:
        """Epochs done -> state after them."""
        folder = self.folder / runfolder.CHECKPOINT
        return {
            int(path.name.split("-")[1].split(".")[0]): path
            for path in folder.glob("epoch-*.weights.h5")
        }


def _score(row: dict[str, float]) -> float:
    """What the best epoch is chosen by; without validation data, the last is.

    Cross-entropy rather than accuracy, which ties and jumps where images are few.
    """
    return -row["val_loss"] if "val_loss" in row else row["epoch"]


class Tracking(keras.callbacks.Callback):
    """Passes metrics on to a tracker."""

    def __init__(self, tracker: Tracker) -> None:
        super().__init__()
        self.tracker = tracker

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Passes the epoch's on."""
        self.tracker.log_metrics(_floats(logs), epoch + 1)


class ProgressBar(keras.callbacks.Callback):
    """A bar over the whole run; a line an epoch where there is no terminal."""

    def __init__(self, console: Console, name: str, epochs: int) -> None:
        super().__init__()
        self.console = console
        self.epochs = epochs
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("epochs  {task.fields[metrics]}"),
            TimeLeft(),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.progress.add_task(name, total=epochs, metrics="")

    def on_train_begin(self, logs: Any = None) -> None:
        """Shows the bar."""
        self.progress.start()

    def stop(self) -> None:
        """Leaves the bar where it is, whatever ended the training."""
        self.progress.stop()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Moves on."""
        names = (("loss", ".4f"), ("accuracy", ".4f"), ("val_accuracy", ".4f"))
        values = _floats(logs)
        metrics = "  ".join(f"{n} {values[n]:{f}}" for n, f in names if n in values)
        if self.console.is_terminal:
            self.progress.update(self.task, completed=epoch + 1, metrics=metrics)
        else:
            self.console.print(f"epoch {epoch + 1}/{self.epochs}  {metrics}")


def _floats(logs: Any) -> dict[str, float]:
    return {name: float(value) for name, value in (logs or {}).items()}
