"""A bar over the steps of a run, or a line an epoch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from keras_resnet.tasks import TASKS
from keras_resnet.training.averaging import steps_done
from keras_resnet.units import count, duration

MEASURED = 5.0  # seconds of steps, by which the whole time is told


@contextmanager
def shown(
    console: Console | None, name: str, epochs: int, batch_size: int
) -> Iterator[list[keras.callbacks.Callback]]:
    """A `ProgressBar` as callbacks for `fit`; none without a console."""
    if console is None:
        yield []
        return
    bar = ProgressBar(console, name, epochs, batch_size)
    try:
        yield [bar]
    finally:
        bar.stop()  # whatever ended the training


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
        self.announced = False

    def on_train_begin(self, logs: Any = None) -> None:
        """Shows the bar."""
        self.progress.start()

    def stop(self) -> None:
        """Leaves the bar where it is."""
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
            self._announce(done, done - before, now - since)
        steps = self.params["steps"]
        if steps:
            self.progress.update(
                self.task,
                total=self.epochs * steps,
                completed=self.epoch * steps + done,
                rate=self.rate,
            )

    def _announce(self, done: int, measured: int, seconds: float) -> None:
        """Says once how long the training takes, if its steps go on like the first."""
        if self.announced or seconds < MEASURED or not self.params["steps"]:
            return
        self.announced = True
        left = (self.epochs - self.epoch) * self.params["steps"] - done
        self.console.print(
            f"time      about {duration(left * seconds / measured)} left, by "
            f"{count(measured, 'step')} of this machine",
            soft_wrap=True,
        )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Shows the epoch's metrics."""
        scores = dict.fromkeys(row.score.key for row in TASKS.values())
        values = _floats(logs)
        names = ("loss", *scores, *(f"val_{score}" for score in scores))
        metrics = "  ".join(f"{n} {values[n]:.4f}" for n in names if n in values)
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
        left = seconds * (self.epochs - done)
        return f"{duration(left)} left" if left else ""


def _floats(logs: Any) -> dict[str, float]:
    return {name: float(value) for name, value in (logs or {}).items()}
