"""Tables, JSON and charts of the benchmarks, with what machine they ran on."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.table import Table

from keras_resnet import files
from keras_resnet.figures import COLORS, MARKERS, caption, new_figure, write_figure

PACKAGES = (
    "keras-residual", "tensorflow", "keras", "torch", "openvino", "onnxruntime",
    "ai-edge-litert", "numpy",
)  # fmt: skip

Records = Sequence[Mapping[str, Any]]
Columns = Mapping[str, tuple[str, str]]  # name: a record's key, format
Lines = Mapping[str, Sequence[tuple[Any, float]]]  # series: points


class Bars(NamedTuple):
    """A chart: a panel a case, a bar a peer of the length record[key].

    `label`, formatted with the record, stands at the bar's end.
    """

    axis: str
    key: str
    label: str


def machine() -> dict[str, Any]:
    """Processor and versions; neither names nor paths."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in PACKAGES},
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def show(title: str, columns: Columns, records: Records, *notes: str) -> None:
    """Prints a row a record and a section a case; what a record lacks stays empty.

    A column that all records lack is left out.
    """
    facts = machine()
    versions = ", ".join(f"{name} {v}" for name, v in facts["versions"].items() if v)
    notes = (*notes, f"{facts['cpu']}, {facts['cores']} cores; {versions}")
    table = Table(title=title, caption="\n".join(notes), caption_justify="left")
    forms = {}
    for name, (key, form) in columns.items():
        kinds = {type(record.get(key)) for record in records} - {type(None)}
        if kinds:
            table.add_column(name, justify="left" if kinds == {str} else "right")
            forms[key] = form
    case = None
    for record in records:
        if record["case"] != case:
            case = record["case"]
            table.add_section()
        values = ((record.get(key), form) for key, form in forms.items())
        table.add_row(*("" if v is None else format(v, form) for v, form in values))
    # A pipe has no width to keep to.
    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = 120
    console.print(table)


def add_earlier(out: Path, records: Records) -> list[dict[str, Any]]:
    """With what the benchmark measured before on this machine, by case and peer."""
    found = [dict(record) for record in records]
    file = out / f"{_name()}.json"
    if not file.exists():
        return found
    earlier = files.read_json(file)
    if earlier["machine"] != machine():
        return found
    rows = {(record["case"], record["peer"]): record for record in earlier["records"]}
    rows |= {(record["case"], record["peer"]): record for record in found}
    cases = list(dict.fromkeys(case for case, _ in rows))
    return [rows[key] for key in sorted(rows, key=lambda key: cases.index(key[0]))]


def publish(
    out: Path,
    title: str,
    columns: Columns,
    records: Records,
    *notes: str,
    bars: Bars | None = None,
) -> None:
    """Shows and writes records, and draws them as bars if these are given."""
    show(title, columns, records, *notes)
    write(out, records)
    if bars:
        draw_bars(out, title, bars, records)


def _module() -> str:
    """The running benchmark's, such as benchmarks.training."""
    module = click.get_current_context().command.callback.__module__
    return sys.modules["__main__"].__spec__.name if module == "__main__" else module


def _name() -> str:
    return _module().rpartition(".")[2]


def write(out: Path, records: Records) -> None:
    """Writes the benchmark's JSON: records, and how and on what they came about."""
    context = click.get_current_context()
    fields = {
        "benchmark": _name(),
        "command": f"python -m {_module()}",
        "options": {
            key: value
            for key, value in context.params.items()
            if not isinstance(value, Path)  # which are this machine's
        },
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "machine": machine(),
        "records": records,
    }
    out.mkdir(parents=True, exist_ok=True)
    files.write_text(out / f"{_name()}.json", json.dumps(fields, indent=2) + "\n")


def last(out: Path) -> Records:
    """The records that the benchmark last wrote there, if any."""
    file = out / f"{_name()}.json"
    found: Records = json.loads(file.read_text())["records"] if file.exists() else ()
    return found


def draw_bars(out: Path, title: str, chart: Bars, records: Records) -> None:
    """Draws the benchmark's chart."""
    axis, key, label = chart
    drawn = [record for record in records if record.get(key) is not None]
    if not drawn:
        return
    peers = list(dict.fromkeys(record["peer"] for record in drawn))
    cases = list(dict.fromkeys(record["case"] for record in drawn))
    panels = [[each for each in drawn if each["case"] == case] for case in cases]
    figure, axes = _figure(
        title,
        (8, 0.3 * len(drawn) + 0.5 * len(panels) + 1.2),
        rows=len(panels),
        grid="",
        sharex=True,
        height_ratios=[len(panel) for panel in panels],
    )
    for ax, case, panel in zip(axes, cases, panels, strict=True):
        bars = ax.barh(
            [record["peer"] for record in panel],
            [record[key] for record in panel],
            color=[
                COLORS[peers.index(record["peer"]) % len(COLORS)] for record in panel
            ],
            height=0.75,
        )
        labels = [label.format(**record) for record in panel]
        ax.bar_label(bars, labels, padding=3, fontsize=9)
        ax.invert_yaxis()
        ax.set_title(case, loc="left", fontsize=10)
    axes[-1].set_xlim(0, 1.4 * max(record[key] for record in drawn))  # for the labels
    axes[-1].set_xlabel(axis)
    _save(figure, out)


def draw_lines(
    out: Path,
    title: str,
    axis: str,
    panels: Mapping[tuple[str, str], Lines],
    span: tuple[float, float] | None = None,
) -> None:
    """Draws the benchmark's chart: a panel a (title, abscissa), a line a series.

    The ordinate begins at zero, or has a `span` of its own.
    """
    figure, axes = _figure(title, (4 * len(panels), 4), columns=len(panels), grid="y")
    names = list(dict.fromkeys(each for series in panels.values() for each in series))
    for ax, ((case, abscissa), series) in zip(axes, panels.items(), strict=True):
        for each, points in series.items():
            index = names.index(each)
            ax.plot(
                *zip(*points, strict=True),
                color=COLORS[index % len(COLORS)],
                marker=MARKERS[index % len(MARKERS)],
                label=each,
            )
        ax.set_title(case, loc="left", fontsize=10)
        ax.set_xlabel(abscissa)
        ax.set_ylim(span or (0, 1.08 * ax.dataLim.ymax))
    axes[0].set_ylabel(axis)
    axes[0].legend(fontsize=9)
    _save(figure, out)


def _figure(title: str, size: tuple[float, float], **grid: Any) -> tuple[Any, Any]:
    figure, axes = new_figure(*size, squeeze=False, **grid)
    figure.suptitle(title, fontsize=11)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes.flatten()


def _save(figure: Any, out: Path) -> None:
    name, facts = _name(), machine()
    caption(figure, f"{facts['cpu']}, {facts['cores']} cores")
    out.mkdir(parents=True, exist_ok=True)
    write_figure(out / f"{name}.png", figure)
    click.echo(f"{name}.json and {name}.png written", err=True)
