"""Measured time and memory of networks' inference, kept in a folder."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keras_resnet import files, runtime
from keras_resnet.analysis.measuring import measure
from keras_resnet.errors import UserError, one_line

MEASURED = "measured.csv"


class Timing(NamedTuple):
    """One line of `MEASURED`: a network, `measuring.Measurement`, and where."""

    network: str
    batch: int
    seconds_min: float
    seconds_median: float
    images_per_second: float
    peak_bytes: int
    machine: str


_TYPES: dict[str, Callable[[str], Any]] = {
    "network": str, "batch": int, "peak_bytes": int, "machine": str,
}  # fmt: skip


def read_timings(folder: Path) -> list[Timing]:
    """The measurements in a folder, made here or on another machine.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / MEASURED
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return [
                Timing(
                    *(_TYPES.get(field, float)(row[field]) for field in Timing._fields)
                )
                for row in csv.DictReader(file)
            ]
    except KeyError as error:
        raise UserError(f"measured: {path} has no column {error}") from None
    except (TypeError, ValueError, OSError) as error:
        raise UserError(f"measured: can't read {path}: {one_line(error)}") from None


def write_timings(folder: Path, timings: Sequence[Timing]) -> None:
    """Writes all timings, by renaming."""
    files.write_csv(folder / MEASURED, Timing._fields, timings)


def measure_missing(
    folder: Path,
    networks: Iterable[str],
    batches: Sequence[int],
    repeats: int,
    say: Callable[[str], None],
) -> list[Timing]:
    """Measures what isn't in the folder yet; each network is kept once it is done.

    Args:
        folder: made if missing; it holds one machine's measurements.
        networks: what `models.load_model` takes.
        batches: sizes to measure.
        repeats: as `measure` has it.
        say: called with the name of each network before it is measured.

    Raises:
        UserError: the folder can't be written, or holds another machine's.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out: can't write to {folder}: {error.strerror}") from None
    timings = read_timings(folder)
    machine = f"{runtime.usable_cores()} cores of {runtime.processor()[0]}"
    if others := {timing.machine for timing in timings} - {machine}:
        raise UserError(
            f"out: what {folder / MEASURED} holds was measured on "
            f"{', '.join(sorted(others))}, and this is {machine}; name another folder"
        )
    known = {(timing.network, timing.batch) for timing in timings}
    for name in networks:
        missing = [batch for batch in batches if (name, batch) not in known]
        if missing:
            say(name)
            rows = measure(name, batches=missing, repeats=repeats)
            timings += [Timing(name, *row, machine) for row in rows]
            write_timings(folder, timings)
    return timings
