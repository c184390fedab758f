"""What happens between the steps and at the end of each epoch."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from keras_resnet import runfolder
from keras_resnet.errors import UserError
from keras_resnet.training.averaging import Averages, steps_done
from keras_resnet.training.plateau import Plateau

if TYPE_CHECKING:
    from keras_resnet.training.recipes import Recipe


class TrainingError(UserError):
    """A training that can't go on."""


def callbacks_of(recipe: Recipe, folder: Path | None) -> list[Any]:
    """See `Recipe.callbacks`."""
    averages = Averages(recipe.ema) if recipe.ema else None
    state = RunState(folder, recipe, averages) if folder else None
    plateau = recipe.schedule == "plateau"
    # The averages are there before a checkpoint is read into them, and the history
    # before the plateaus in it are counted.
    return [
        *([averages] if averages else []),
        *([state] if state else []),
        *([Plateau(recipe, state)] if plateau else []),
    ]


class RunState(keras.callbacks.Callback):
    """Keeps history, best model and resume state in a run folder.

    Continues where the folder's checkpoint ends. Every file is written by renaming, in
    an order in which a kill at any moment costs at most the epoch under way.

    Args:
        folder: the run folder; made if missing.
        recipe: its recipe.
        averages: the averaged weights, if the recipe has them: they belong to the
            resume state, and the best model is made of them.

    Raises:
        RunFolderError: the folder holds a finished run, another run or no run.
    """

    def __init__(
        self, folder: Path, recipe: Recipe, averages: Averages | None = None
    ) -> None:
        super().__init__()
        if runfolder.prepare(folder, recipe.to_json()):
            runfolder.clear_leftovers(folder)
        self.folder = folder
        self.averages = averages
        self.history: list[dict[str, float]] = []
        self.started = self.rate = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        """Restores weights, optimizer and epoch, if there is a checkpoint."""
        checkpoints = self._checkpoints()
        done = max(checkpoints, default=0)
        if done:
            self.model.optimizer.build(self.model.trainable_variables)
            try:
                self.model.load_weights(checkpoints[done])
                if self.averages:
                    self.averages.read(checkpoints[done])
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
        """Starts the clock; notes the learning rate of the epoch's first step."""
        self.started = time.perf_counter()
        rate = self.model.optimizer.learning_rate
        self.rate = float(keras.ops.convert_to_numpy(rate))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves the model if it is the best, history, and state to resume."""
        row = {"epoch": epoch + 1, "seconds": time.perf_counter() - self.started}
        if logs is not None:
            logs["learning_rate"] = self.rate  # for the callbacks after this one too
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
            if self.averages:
                self.averages.write(temporary)
        for epoch_done, checkpoint in old.items():
            if epoch_done != epoch + 1:
                checkpoint.unlink()
        if self._is_best():
            self._save_best()

    def _is_best(self) -> bool:
        """Whether the last epoch is as good as any."""
        return all(_score(self.history[-1]) >= _score(row) for row in self.history)

    def _save_best(self) -> None:
        averaged = self.averages.in_model() if self.averages else nullcontext()
        with averaged, runfolder.replacing(self.folder / runfolder.BEST) as temporary:
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


class ProgressBar(keras.callbacks.Callback):
    """A bar over the steps of a run; a line an epoch where there is no terminal.

    Args:
        console: where it is shown.
        name: what is trained.
        epochs: of the whole run.
        batch_size: images a step, for the rate of training; not shown if None.
    """

    def __init__(
        self, console: Console, name: str, epochs: int, batch_size: int | None = None
    ) -> None:
        super().__init__()
        self.console = console
        self.epochs = epochs
        self.batch_size = batch_size
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            TextColumn("{task.fields[metrics]}", markup=False),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.progress.add_task(
            name, total=None, epoch=0, epochs=epochs, metrics="", rate=""
        )
        self.epoch = 0
        # When the run began, and how much was done by then; when the epoch's first
        # step had ended, which may have been traced and compiled, and at which step.
        self.began: tuple[float, int] | None = None
        self.first: tuple[float, int] | None = None
        self.rate = ""

    def on_train_begin(self, logs: Any = None) -> None:
        """Shows the bar."""
        self.progress.start()

    def stop(self) -> None:
        """Leaves the bar where it is, whatever ended the training."""
        self.progress.stop()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock."""
        if self.began is None:
            self.began = time.perf_counter(), epoch
            # What a resumed run had done says nothing about its speed.
            done = epoch * (self.params["steps"] or 0)
            self.progress.reset(self.task, total=None, completed=done)
        self.epoch, self.first = epoch, None
        self.progress.update(self.task, epoch=epoch + 1)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Moves on by a step."""
        now, done = time.perf_counter(), steps_done(batch, self.params)
        if self.first is None:
            self.first = now, done
        elif self.batch_size:
            since, before = self.first
            images = (done - before) * self.batch_size
            self.rate = f"{images / (now - since):.0f} images/s"
        steps = self.params["steps"]
        if steps:
            self.progress.update(
                self.task,
                total=self.epochs * steps,
                completed=self.epoch * steps + done,
                rate=self.rate,
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Tells the epoch's metrics."""
        names = (("loss", ".4f"), ("accuracy", ".4f"), ("val_accuracy", ".4f"))
        values = _floats(logs)
        metrics = "  ".join(f"{n} {values[n]:{f}}" for n, f in names if n in values)
        if self.console.is_terminal:
            self.progress.update(self.task, metrics=metrics)
            return
        parts = [f"epoch {epoch + 1}/{self.epochs}", metrics, self.rate, self._left()]
        line = "  ".join(part for part in parts if part)
        self.console.print(line, soft_wrap=True)

    def _left(self) -> str:
        """Time left, if the epochs to come take as long as those of this run."""
        if self.began is None:
            return ""
        since, before = self.began
        done = self.epoch + 1
        seconds = (time.perf_counter() - since) / (done - before)
        return f"{timedelta(seconds=round(seconds * (self.epochs - done)))} left"


def _floats(logs: Any) -> dict[str, float]:
    return {name: float(value) for name, value in (logs or {}).items()}
