"""What happens at the end of each epoch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.progress import TimeRemainingColumn as TimeLeft

from keras_resnet import runfolder
from keras_resnet.tracking import Tracker

if TYPE_CHECKING:
    from keras_resnet.training.recipes import Recipe

MONITOR = "val_accuracy"


def run_callbacks(folder: Path | str, recipe: Recipe) -> list[keras.callbacks.Callback]:
    """Keeps history, best model and resume state in a run folder.

    Raises:
        RunFolderError: the folder holds a finished run, another run or no run.
    """
    folder = Path(folder)
    resumed = runfolder.prepare(folder, recipe.to_json())
    history = runfolder.read_lines(folder / runfolder.HISTORY) if resumed else []
    best = max((row.get(MONITOR, 0.0) for row in history), default=-1.0)
    return [
        BestModel(folder / runfolder.BEST, best),
        History(folder / runfolder.HISTORY),
        keras.callbacks.BackupAndRestore(
            str(folder / runfolder.CHECKPOINT), delete_checkpoint=False
        ),
    ]


class History(keras.callbacks.Callback):
    """Writes a line of metrics an epoch."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.started = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock."""
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds the line."""
        row = {"epoch": epoch + 1, "seconds": time.perf_counter() - self.started}
        runfolder.append_line(self.path, row | _floats(logs))


class BestModel(keras.callbacks.Callback):
    """Saves the model of the best epoch, the later one of equals, by renaming."""

    def __init__(self, path: Path, best: float) -> None:
        super().__init__()
        self.path = path
        self.best = best

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves if this epoch is as good as any."""
        value = _floats(logs).get(MONITOR, float(epoch))
        if value >= self.best:
            self.best = value
            with runfolder.replacing(self.path) as temporary:
                self.model.save(temporary)


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
            TextColumn("{task.description}"),
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

    def on_train_end(self, logs: Any = None) -> None:
        """Leaves the bar where it ended."""
        self.progress.stop()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Moves on."""
        names = (("loss", ".4f"), ("accuracy", ".4f"), (MONITOR, ".4f"))
        values = _floats(logs)
        metrics = "  ".join(f"{n} {values[n]:{f}}" for n, f in names if n in values)
        if self.console.is_terminal:
            self.progress.update(self.task, completed=epoch + 1, metrics=metrics)
        else:
            self.console.print(f"epoch {epoch + 1}/{self.epochs}  {metrics}")


def _floats(logs: Any) -> dict[str, float]:
    return {name: float(value) for name, value in (logs or {}).items()}
