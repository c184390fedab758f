"""What is seen of a search: a live table, or a line a trial on a plain terminal."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from keras_resnet.units import in_units
from tuning.trials import Row, completed, is_refused, read_rows

SHOWN = 12  # trials in the table: the last ones


class Progress:
    """Shows trials as they begin and end.

    Args:
        console: where; nowhere if None.
        folder: of the search.
        trials: how many there will be, if that is known.
        seconds: of training that the search may take, if that is limited.
    """

    def __init__(
        self,
        console: Console | None,
        folder: Path,
        trials: int | None,
        seconds: float | None,
    ) -> None:
        self.console = console
        self.folder = folder
        self.trials = trials
        self.seconds = seconds
        self.began = time.monotonic()
        self.ended = 0  # trials, since then
        self.told: set[str] = set()
        self.live: Live | None = None

    def __enter__(self) -> Self:
        if self.console and self.console.is_terminal:
            self.live = Live(console=self.console, refresh_per_second=2)
            self.live.start()
        if self.console:
            self.told = {
                r.trial for r in read_rows(self.folder) if r.status != "RUNNING"
            }
            if self.told:
                self.console.print(f"{len(self.told)} trials are done; going on")
        return self

    def __exit__(self, *error: Any) -> None:
        if self.live:
            self.live.stop()

    def show(self) -> None:
        """Brings what is shown up to date."""
        if self.console is None:
            return
        rows = read_rows(self.folder)
        ended = [r for r in rows if r.status != "RUNNING" and r.trial not in self.told]
        if not self.live:
            for row in ended:
                self.told.add(row.trial)
                self.ended += bool(row.metrics)
                self.console.print(self._line(row, rows), soft_wrap=True)
            return
        self.ended += sum(bool(row.metrics) for row in ended)
        self.told |= {row.trial for row in ended}
        self.live.update(self._table(rows))

    def _line(self, row: Row, rows: list[Row]) -> str:
        values = "  ".join(f"{k} {short(v)}" for k, v in values_of(row).items())
        parts = [f"trial {row.trial}", values, _outcome(row), *self._standing(rows)]
        return "  ".join(part for part in parts if part)

    def _standing(self, rows: list[Row]) -> list[str]:
        best = max((r.metrics["val_accuracy"] for r in completed(rows)), default=None)
        left = self._left(rows)
        return [f"best {best:.2%}" if best is not None else "", left and f"{left} left"]

    def _left(self, rows: list[Row]) -> str:
        """Time left, if trials take as long as those of this process did."""
        seconds = []
        if self.ended and self.trials:
            each = (time.monotonic() - self.began) / self.ended
            refused = [row for row in rows if is_refused(row.status, row.reason)]
            trained = len(rows) - len(refused)
            seconds.append(each * max(self.trials - trained, 0))
        if self.seconds:
            took = sum(row.metrics.get("seconds", 0) for row in rows)
            seconds.append(max(self.seconds - took, 0))
        return str(timedelta(seconds=round(min(seconds)))) if seconds else ""

    def _table(self, rows: list[Row]) -> Table:
        table = Table(title=str(self.folder), caption="  ".join(self._standing(rows)))
        names = list(dict.fromkeys(name for row in rows for name in values_of(row)))
        for name in ("trial", *names):
            table.add_column(name, justify="right")
        table.add_column("outcome")
        for row in rows[-SHOWN:]:
            values = [short(row.values.get(name, "")) for name in names]
            # A reason may hold brackets, which are no markup.
            table.add_row(row.trial, *values, Text(_outcome(row)))
        return table


def values_of(row: Row) -> dict[str, Any]:
    """Hyperparameters without KerasTuner's own of Hyperband, but for the epochs."""
    values = {k: v for k, v in row.values.items() if not k.startswith("tuner/")}
    if "tuner/epochs" in row.values:
        values["epochs"] = row.values["tuner/epochs"]
    return values


def short(value: Any) -> str:
    """A hyperparameter's value, to read."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _outcome(row: Row) -> str:
    if row.status == "COMPLETED":
        macs, seconds = in_units(row.metrics["macs"], "MAC"), row.metrics["seconds"]
        return f"{row.metrics['val_accuracy']:.2%}  {macs}  {seconds:.0f} s"
    return row.reason if row.status == "FAILED" else row.status.lower()
