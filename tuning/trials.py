"""What the folder of a search says of its trials. No TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keras_resnet.recipe import Recipe
from keras_resnet.run import Run

KEY = {"accuracy": "val_accuracy", "pareto": "score"}  # metric of an objective

# What is in the folder of a search.
SEARCH = "search.json"  # what is searched
PROJECT = "tuner"  # KerasTuner's state, and a run folder for each trial
BEST = "best.json"  # the best trial's recipe
REPORT = "report"
RETRAINED = "retrained"  # folder of the winner's and the default's runs
COMPARISON = f"{RETRAINED}/comparison.json"


class Row(NamedTuple):
    """A trial.

    Attributes:
        trial: its id.
        status: KerasTuner's: "COMPLETED", "FAILED", "RUNNING".
        reason: why it failed.
        values: its hyperparameters.
        metrics: of its best epoch, and what it costs.
        run: its run folder.
    """

    trial: str
    status: str
    reason: str
    values: dict[str, Any]
    metrics: dict[str, float]
    run: Path

    @property
    def recipe(self) -> Recipe:
        """Its recipe."""
        return Run(self.run).recipe


def read_rows(folder: Path) -> list[Row]:
    """All trials of a search, in the order of their ids."""
    paths = folder.glob(f"{PROJECT}/trial_*/trial.json")
    return sorted((read_row(path) for path in paths), key=lambda row: int(row.trial))


def read_row(path: Path) -> Row:
    """A trial from its file."""
    fields = json.loads(path.read_text())
    metrics = fields["metrics"]["metrics"]
    return Row(
        fields["trial_id"],
        fields["status"],
        fields["message"] or "",
        fields["hyperparameters"]["values"],
        {n: m["observations"][-1]["value"][0] for n, m in metrics.items()},
        path.parent / "run",
    )


def completed(rows: Sequence[Row]) -> list[Row]:
    """The trials that came to an end."""
    return [row for row in rows if row.status == "COMPLETED"]


def is_refused(status: str, reason: str) -> bool:
    """Whether a trial was too expensive, and not trained."""
    return status == "FAILED" and reason.startswith("budget:")


def best_of(rows: Sequence[Row], objective: str) -> Row | None:
    """The best trial; of equal ones the cheapest, then the first."""
    key = KEY[objective]
    return max(
        completed(rows),
        key=lambda row: (row.metrics[key], -row.metrics["macs"]),
        default=None,
    )


def pareto_front(rows: Sequence[Row]) -> list[Row]:
    """Trials that none is better than for no more multiply-adds, the cheapest first."""
    front: list[Row] = []
    order = sorted(
        completed(rows), key=lambda r: (r.metrics["macs"], -r.metrics["val_accuracy"])
    )
    for row in order:
        least = front[-1].metrics["val_accuracy"] if front else float("-inf")
        if row.metrics["val_accuracy"] > least:
            front.append(row)
    return front
