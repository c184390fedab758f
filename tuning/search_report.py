"""The report of a search: `report/` in its folder. No TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from keras_resnet import files
from keras_resnet.recipe import Recipe
from keras_resnet.units import in_units
from tuning import search_plots
from tuning.noise import read_noise
from tuning.objective import Objective
from tuning.trials import (
    COMPARISON,
    REPORT,
    SEARCH,
    Trial,
    completed,
    names_of,
    pareto_front,
    ranked,
    read_trials,
    to_text,
)

GROUPS = 4  # of a hyperparameter with more values, for its importance
LISTED = 30  # trials in the summary: the best ones


def write_report(folder: Path) -> Path:
    """Plots and tables of a search so far.

    `pareto.png`, `parallel.png`, `importance.png`, `shapes.png`, `trials.csv` and
    `README.md`.

    Args:
        folder: of the search.

    Returns:
        `report/` in the folder.
    """
    described = files.read_json(folder / SEARCH)
    base = Recipe.from_json(json.dumps(described["recipe"])).model
    trials = read_trials(folder)
    report = folder / REPORT
    report.mkdir(exist_ok=True)
    done = completed(trials)
    _write_table(trials, report / "trials.csv")
    shares = importance(done)
    if done:
        search_plots.draw_pareto(done, report / "pareto.png")
        search_plots.draw_parallel(done, report / "parallel.png")
        search_plots.draw_importance(shares, report / "importance.png")
        search_plots.draw_shapes(done, base, report / "shapes.png")
    objective = Objective.of(described)
    parts = [_summary(trials), _listing(trials, objective, shares)]
    if (folder / COMPARISON).exists():
        parts.append(_comparison(files.read_json(folder / COMPARISON)))
    lines = [line for part in parts for line in part]
    files.write_text(report / "README.md", "\n".join(lines).rstrip() + "\n")
    return report


def importance(trials: Sequence[Trial]) -> dict[str, float]:
    """Hyperparameter -> share of the variance of accuracy that lies between its values.

    Epsilon squared of a one-way analysis of variance: what as many values would share
    by chance is taken off. Values of ranges are put into `GROUPS` of equal size; trials
    in which a hyperparameter is off are a group. The shares need not add up to 1, and
    say little where trials are few.
    """
    found = {name: _share(trials, name) for name in names_of(trials)}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _share(trials: Sequence[Trial], name: str) -> float:
    values = [trial.hyperparameters.get(name) for trial in trials]
    known = sorted(
        {v for v in values if v is not None}, key=lambda v: (str(type(v)), v)
    )
    if len(known) > GROUPS and not isinstance(known[0], str):
        edges = np.quantile([v for v in values if v is not None],
                            np.linspace(0, 1, GROUPS + 1)[1:-1])  # fmt: skip
        values = [None if v is None else int(np.searchsorted(edges, v)) for v in values]
    accuracy = np.array([trial.accuracy for trial in trials])
    groups = [
        accuracy[[v == value for v in values]]
        for value in dict.fromkeys(values)
    ]  # fmt: skip
    within = sum(((group - group.mean()) ** 2).sum() for group in groups)
    total = ((accuracy - accuracy.mean()) ** 2).sum()
    free = len(trials) - len(groups)
    if total == 0 or free <= 0 or len(groups) < 2:
        return 0.0
    by_chance = (len(groups) - 1) * within / free
    return float(max((total - within - by_chance) / total, 0.0))


def _write_table(trials: Sequence[Trial], path: Path) -> None:
    names = names_of(trials)
    metrics = list(dict.fromkeys(name for trial in trials for name in trial.metrics))
    cells = [
        (
            trial.id,
            trial.status,
            *(trial.hyperparameters.get(name, "") for name in names),
            *(trial.metrics.get(name, "") for name in metrics),
            trial.reason,
        )
        for trial in trials
    ]
    files.write_csv(path, ["trial", "status", *names, *metrics, "reason"], cells)


def _summary(trials: Sequence[Trial]) -> list[str]:
    """How many trials were completed, failed and refused."""
    done = completed(trials)
    refused = sum(trial.refused for trial in trials)
    failed = sum(trial.status == "FAILED" for trial in trials) - refused
    reasons = dict.fromkeys(trial.reason for trial in trials if trial.reason)
    return [
        "# Search",
        "",
        f"{len(done)} trials were completed, {failed} failed, {refused} were over the "
        "budget. Accuracy is on the validation images, by which the best is chosen: on "
        "other images the best will be less accurate.",
        "",
        *(noise.lines() if (noise := read_noise(trials)) else []),
        "",
        *(f"- {reason}" for reason in [*reasons][:20]),
        *([""] if reasons else []),
    ]


def _listing(
    trials: Sequence[Trial], objective: Objective, shares: dict[str, float]
) -> list[str]:
    """The best trials, and the plots."""
    done = ranked(trials, objective)
    best = next(iter(done), None)
    if best is None:
        return []
    names = names_of(done)
    heads = ["trial", *names, "widths", "accuracy", "multiply-adds", "parameters", "s"]
    front = {trial.id for trial in pareto_front(trials)}
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for trial in done[:LISTED]:
        spec = trial.recipe.model
        outer = (spec.outer_width(stage) for stage in range(len(spec.depths)))
        cells = [
            trial.id + "\\*" * (trial.id in front),
            *(to_text(trial.hyperparameters.get(name, "")) for name in names),
            "-".join(map(str, outer)),
            f"{trial.accuracy:.2%}",
            in_units(trial.metrics["macs"], "MAC"),
            in_units(trial.metrics["params"], ""),
            f"{trial.metrics['seconds']:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    parted = ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    return [
        f"The best is trial {best.id}. \\*: no other is as good for fewer "
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


def _comparison(compared: dict[str, Any]) -> list[str]:
    """Winner and default on test images, by `retrain`."""
    pairs = zip(compared["seeds"], compared["best"], compared["default"], strict=True)
    finalists = compared.get("finalists", ())
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
        *_finalists(finalists),
    ]


def _finalists(finalists: Sequence[dict[str, Any]]) -> list[str]:
    """All of a final; the winner is the one that did best on validation images."""
    if len(finalists) < 2:
        return []
    means = [
        (finalist["trial"], mean(finalist["validation"]), mean(finalist["test"]))
        for finalist in finalists
    ]
    return [
        "| finalist | validation images | test images |",
        "|---|---|---|",
        *(f"| {trial} | {val:.2%} | {test:.2%} |" for trial, val, test in means),
        "",
    ]
