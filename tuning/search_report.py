"""What a search leaves to look at: `report/` in its folder. No TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet import files
from keras_resnet.recipe import Recipe
from keras_resnet.units import in_units
from tuning import search_plots
from tuning.search_progress import short, values_of
from tuning.trials import (
    COMPARISON,
    KEY,
    REPORT,
    SEARCH,
    Row,
    best_of,
    completed,
    is_refused,
    pareto_front,
    read_rows,
)

GROUPS = 4  # of a hyperparameter with more values, for its importance
LISTED = 30  # trials in the summary: the best ones


def write_report(folder: Path) -> Path:
    """Pictures and tables of a search, as far as it has come.

    `pareto.png`, `parallel.png`, `importance.png`, `shapes.png`, `trials.csv` and
    `README.md`.

    Args:
        folder: of the search.

    Returns:
        `report/` in the folder.
    """
    described = files.read_json(folder / SEARCH)
    base = Recipe.from_json(json.dumps(described["recipe"])).model
    rows = read_rows(folder)
    report = folder / REPORT
    report.mkdir(exist_ok=True)
    done = completed(rows)
    _write_table(rows, report / "trials.csv")
    shares = importance(done)
    if done:
        search_plots.draw_pareto(done, report / "pareto.png")
        search_plots.draw_parallel(done, report / "parallel.png")
        search_plots.draw_importance(shares, report / "importance.png")
        search_plots.draw_shapes(done, base, report / "shapes.png")
    parts = [_summary(rows), _listing(rows, described["objective"], shares)]
    if (folder / COMPARISON).exists():
        parts.append(_judgement(files.read_json(folder / COMPARISON)))
    lines = [line for part in parts for line in part]
    files.write_text(report / "README.md", "\n".join(lines).rstrip() + "\n")
    return report


def importance(rows: Sequence[Row]) -> dict[str, float]:
    """Hyperparameter -> share of the variance of accuracy that lies between its values.

    Epsilon squared of a one-way analysis of variance: what as many values would share
    by chance is taken off. Values of ranges are put into `GROUPS` of equal size; trials
    in which a hyperparameter is off are a group. The shares need not add up to 1, and
    say little where trials are few.
    """
    names = dict.fromkeys(name for row in rows for name in values_of(row))
    found = {name: _share(rows, name) for name in names}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _share(rows: Sequence[Row], name: str) -> float:
    values = [values_of(row).get(name) for row in rows]
    known = sorted(
        {v for v in values if v is not None}, key=lambda v: (str(type(v)), v)
    )
    if len(known) > GROUPS and not isinstance(known[0], str):
        edges = np.quantile([v for v in values if v is not None],
                            np.linspace(0, 1, GROUPS + 1)[1:-1])  # fmt: skip
        values = [None if v is None else int(np.searchsorted(edges, v)) for v in values]
    accuracy = np.array([row.metrics["val_accuracy"] for row in rows])
    groups = [
        accuracy[[v == value for v in values]]
        for value in dict.fromkeys(values)
    ]  # fmt: skip
    within = sum(((group - group.mean()) ** 2).sum() for group in groups)
    total = ((accuracy - accuracy.mean()) ** 2).sum()
    free = len(rows) - len(groups)
    if total == 0 or free <= 0 or len(groups) < 2:
        return 0.0
    by_chance = (len(groups) - 1) * within / free
    return float(max((total - within - by_chance) / total, 0.0))


def _write_table(rows: Sequence[Row], path: Path) -> None:
    names = list(dict.fromkeys(name for row in rows for name in values_of(row)))
    metrics = list(dict.fromkeys(name for row in rows for name in row.metrics))
    cells = [
        (
            row.trial,
            row.status,
            *(values_of(row).get(name, "") for name in names),
            *(row.metrics.get(name, "") for name in metrics),
            row.reason,
        )
        for row in rows
    ]
    files.write_csv(path, ["trial", "status", *names, *metrics, "reason"], cells)


def _summary(rows: Sequence[Row]) -> list[str]:
    """What became of the trials."""
    done = completed(rows)
    refused = [row for row in rows if is_refused(row.status, row.reason)]
    failed = len([row for row in rows if row.status == "FAILED"]) - len(refused)
    reasons = dict.fromkeys(row.reason for row in rows if row.reason)
    return [
        "# Search",
        "",
        f"{len(done)} trials came to an end, {failed} failed, {len(refused)} were over "
        "the budget. Accuracy is of the validation images, by which trials are chosen: "
        "that of the best one is too high for a forecast.",
        "",
        *(f"- {reason}" for reason in [*reasons][:20]),
        *([""] if reasons else []),
    ]


def _listing(
    rows: Sequence[Row], objective: str, shares: dict[str, float]
) -> list[str]:
    """The best trials, and the pictures."""
    done, key = completed(rows), KEY[objective]
    best = best_of(rows, objective)
    if best is None:
        return []
    names = list(dict.fromkeys(name for row in done for name in values_of(row)))
    heads = ["trial", *names, "widths", "accuracy", "multiply-adds", "parameters", "s"]
    front = {row.trial for row in pareto_front(rows)}
    order = sorted(done, key=lambda row: (-row.metrics[key], row.metrics["macs"]))
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for row in order[:LISTED]:
        spec = row.recipe.model
        outer = (spec.outer_width(stage) for stage in range(len(spec.depths)))
        cells = [
            row.trial + "\\*" * (row.trial in front),
            *(short(values_of(row).get(name, "")) for name in names),
            "-".join(map(str, outer)),
            f"{row.metrics['val_accuracy']:.2%}",
            in_units(row.metrics["macs"], "MAC"),
            in_units(row.metrics["params"], ""),
            f"{row.metrics['seconds']:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    parted = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    return [
        f"The best is trial {best.trial}. \\*: no other is as good for fewer "
        "multiply-adds; `trials.csv` has all.",
        "",
        *lines,
        "",
        "Share of the variance of accuracy between a hyperparameter's values: "
        f"{parted}.",
        "",
        *(
            f"![{name}]({name}.png)"
            for name in ("shapes", "pareto", "parallel", "importance")
        ),
        "",
    ]


def _judgement(compared: dict[str, Any]) -> list[str]:
    """Winner and default on test images, as `retrain` found them."""
    pairs = zip(compared["seeds"], compared["best"], compared["default"], strict=True)
    return [
        "## On test images",
        "",
        f"Trial {compared['trial']} and the default, trained anew: "
        f"{compared['verdict']}.",
        "",
        "| seed | winner | default |",
        "|---|---|---|",
        *(f"| {seed} | {one:.2%} | {other:.2%} |" for seed, one, other in pairs),
        "",
    ]
