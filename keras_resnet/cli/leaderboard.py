"""Runs compared: a leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keras_resnet.cli import options
from keras_resnet.cli.group import main
from keras_resnet.cli.output import print_json, print_table, table_of
from keras_resnet.units import in_units

if TYPE_CHECKING:
    from keras_resnet.leaderboard import Entry


def _rank(entry: Entry) -> tuple[int, float]:
    from keras_resnet.leaderboard import rank  # with numpy

    return rank(entry)


_SHOWN = {
    "accuracy": "{:.2%}",
    "mean_average_precision": "mAP {:.2%}",
    "r2": "R2 {:.4f}",
}
SORTS = {
    "accuracy": _rank,
    "macs": lambda entry: entry.macs or 0,
    "params": lambda entry: entry.params,
    "latency": lambda entry: entry.latency or float("inf"),
    "name": lambda entry: str(entry.path),
}


@main.command()
@click.argument("folder", type=options.PATH, default=Path("runs"))
@click.option(
    "--sort", type=click.Choice(list(SORTS)), default="accuracy", show_default=True
)
@options.as_json
def runs(folder: Path, sort: str, as_json: bool) -> None:
    """List the runs and searches below FOLDER, the most accurate first.

    After them those of several labels, by mean average precision, and regressions, by
    R2. Accuracy is that of the test images, with its 95 % interval; in brackets, of the
    validation images: of runs that haven't ended, and of a search's best trial. A
    test is one of the same images where the data are the same.

    Example: keras-resnet runs runs/experiments --sort macs
    """
    from keras_resnet.leaderboard import find

    entries = sorted(find(folder), key=SORTS[sort])
    if as_json:
        rows = [entry._asdict() | {"path": str(entry.path)} for entry in entries]
        print_json(rows)
        return
    if not entries:
        click.echo(f"no runs in {folder}; the first: keras-resnet train")
        return
    table = table_of(
        "run", "data", "network", "accuracy>", "95 %>", "MACs>", "params>", "ms>",
        "state",
    )  # fmt: skip
    for entry in entries:
        interval = accuracy = ""
        if entry.score is not None:
            accuracy = _SHOWN[entry.metric].format(entry.score)
        if entry.low is not None and entry.high is not None:
            interval = f"{entry.low:.1%} to {entry.high:.1%}"
        elif accuracy and entry.state != "finished":
            accuracy = f"({accuracy})"
        table.add_row(
            str(entry.path),
            entry.data,
            entry.network,
            accuracy,
            interval,
            in_units(entry.macs, "") if entry.macs else "",
            in_units(entry.params, "") if entry.params else "",
            "" if entry.latency is None else f"{entry.latency:.2f}",
            entry.state,
        )
    print_table(table)
