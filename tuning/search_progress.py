"""Progress of a search: a live table, or a line a trial where there is no terminal."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from keras_resnet.units import count, in_units
from tuning.noise import read_noise
from tuning.objective import Objective
from tuning.trials import (
    DEFAULT,
    Trial,
    completed,
    defaults,
    names_of,
    read_trials,
    to_text,
)

SHOWN = 12  # trials in the table: the last ones


class Progress:
    """Shows trials as they begin and end.

    Args:
        console: where; nowhere if None.
        folder: of the search.
        trials: how many there will be, if that is known.
        seconds: of training that the search may take, if that is limited.
        baseline: trials of the default, after which it says what is noise.
        objective: for which that may be too much.
    """

    def __init__(
        self,
        console: Console | None,
        folder: Path,
        trials: int | None,
        seconds: float | None,
        baseline: int = 0,
        objective: Objective = Objective(),  # noqa: B008  # it is frozen
    ) -> None:
        self.console = console
        self.folder = folder
        self.trials = trials
        self.seconds = seconds
        self.baseline = baseline
        self.objective = objective
        self.warned = False
        self.began = time.monotonic()
        self.ended = 0  # trials, since then
        self.known: dict[str, Trial] = {}
        self.shown: set[str] = set()
        self.live: Live | None = None

    def __enter__(self) -> Self:
        if self.console and self.console.is_terminal:
            self.live = Live(console=self.console, refresh_per_second=2)
            self.live.start()
        if self.console:
            self.known = {trial.id: trial for trial in read_trials(self.folder)}
            ended = (t for t in self.known.values() if t.status != "RUNNING")
            self.shown = {trial.id for trial in ended}
            if self.shown:
                self.console.print(f"resuming after {count(len(self.shown), 'trial')}")
        return self

    def __exit__(self, *error: Any) -> None:
        if self.live:
            self.live.stop()

    def show(self, trial: Trial) -> None:
        """Shows that a trial has begun or ended."""
        if self.console is None:
            return
        self.known[trial.id] = trial
        trials = [*self.known.values()]
        if trial.status != "RUNNING" and trial.id not in self.shown:
            self.shown.add(trial.id)
            self.ended += bool(trial.metrics)
            if not self.live:
                self.console.print(self._line(trial, trials), soft_wrap=True)
        if self.live:
            self.live.update(self._table(trials))
        if not self.warned and len(defaults(trials)) >= self.baseline > 1:
            self.warned = True
            if noise := read_noise(trials):
                self.console.print(
                    "\n".join(noise.lines(self.objective)), soft_wrap=True
                )

    def _line(self, trial: Trial, trials: list[Trial]) -> str:
        values = [f"{k} {to_text(v)}" for k, v in trial.hyperparameters.items()]
        if trial.is_default:
            values = [f"default, seed {trial.values[DEFAULT]}"]
        parts = [f"trial {trial.id}", *values, _outcome(trial), *self._summary(trials)]
        return "  ".join(part for part in parts if part)

    def _summary(self, trials: list[Trial]) -> list[str]:
        best = max((trial.accuracy for trial in completed(trials)), default=None)
        left = self._left(trials)
        return [f"best {best:.2%}" if best is not None else "", left and f"{left} left"]

    def _left(self, trials: list[Trial]) -> str:
        """Time left, if trials take as long as those of this process did."""
        seconds = []
        if self.ended and self.trials:
            each = (time.monotonic() - self.began) / self.ended
            trained = sum(not trial.refused for trial in trials)
            seconds.append(each * max(self.trials - trained, 0))
        if self.seconds:
            took = sum(trial.metrics.get("seconds", 0) for trial in trials)
            seconds.append(max(self.seconds - took, 0))
        return str(timedelta(seconds=round(min(seconds)))) if seconds else ""

    def _table(self, trials: list[Trial]) -> Table:
        table = Table(title=str(self.folder), caption="  ".join(self._summary(trials)))
        names = names_of(trials)
        for name in ("trial", *names):
            table.add_column(name, justify="right")
        table.add_column("outcome")
        for trial in trials[-SHOWN:]:
            values = trial.hyperparameters
            cells = [to_text(values.get(name, "")) for name in names]
            # A reason may hold brackets, which are no markup.
            table.add_row(trial.id, *cells, Text(_outcome(trial)))
        return table


def _outcome(trial: Trial) -> str:
    if trial.status == "COMPLETED":
        macs = in_units(trial.metrics["macs"], "MAC")
        return f"{trial.accuracy:.2%}  {macs}  {trial.metrics['seconds']:.0f} s"
    return trial.reason if trial.status == "FAILED" else trial.status.lower()
