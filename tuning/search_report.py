"""The report of a search: `report/` in its folder. No TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from keras_resnet import files
from keras_resnet.recipe import Recipe
from keras_resnet.units import count, in_units
from tuning import search_plots
from tuning.expected import expected_accuracy
from tuning.importance import effects, importance, sentences
from tuning.noise import Noise, read_noise
from tuning.objective import COSTS, Objective
from tuning.selection import ranked
from tuning.trials import (
    COMPARISON,
    REPORT,
    SEARCH,
    Trial,
    completed,
    names_of,
    pareto_front,
    read_trials,
    to_text,
)

EXPECTED = (
    " `expected` is what to expect of the network trained again: what of a trial's "
    "accuracy its seed explains, by the default's noise, is taken off."
)
SHOWN = ("macs", "params")  # costs in every table
LISTED = 30  # trials in the summary: the best ones


def write_report(folder: Path) -> Path:
    """Plots and tables of a search so far.

    `effects.png`, `importance.png`, `pareto.png`, `shapes.png`, `parallel.png`,
    `trials.csv` and `README.md`.

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
    noise = read_noise(trials)
    objective = Objective.of(described)
    if done:
        search_plots.draw_pareto(trials, objective.cost, noise, report / "pareto.png")
        search_plots.draw_parallel(done, report / "parallel.png")
        search_plots.draw_importance(
            importance(done), len(done), report / "importance.png"
        )
        search_plots.draw_effects(effects(done), report / "effects.png")
        search_plots.draw_shapes(done, base, report / "shapes.png")
    parts = [_summary(trials, objective, noise), _listing(trials, objective, noise)]
    if (folder / COMPARISON).exists():
        parts.append(_comparison(files.read_json(folder / COMPARISON)))
    lines = [line for part in parts for line in part]
    files.write_text(report / "README.md", "\n".join(lines).rstrip() + "\n")
    return report


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


def _summary(
    trials: Sequence[Trial], objective: Objective, noise: Noise | None
) -> list[str]:
    """How many trials were completed, failed and refused."""
    done = completed(trials)
    refused = sum(trial.refused for trial in trials)
    failed = sum(trial.status == "FAILED" for trial in trials) - refused
    reasons = dict.fromkeys(trial.reason for trial in trials if trial.reason)
    return [
        "# Search",
        "",
        f"{count(len(done), 'trial')} completed, {failed} failed, {refused} over the "
        "budget. Accuracy is on the validation images, by which the best is chosen: on "
        "other images the best will be less accurate.",
        "",
        *(noise.lines(objective) if noise else []),
        "",
        *(f"- {reason}" for reason in [*reasons][:20]),
        *([""] if reasons else []),
    ]


def _listing(
    trials: Sequence[Trial], objective: Objective, noise: Noise | None
) -> list[str]:
    """The best trials, and the plots."""
    done = ranked(trials, objective)
    best = next(iter(done), None)
    if best is None:
        return []
    names = names_of(done)
    hopes = expected_accuracy(done, noise.deviation) if noise else []
    heads = ["trial", *names, "widths", "accuracy", *(["expected"] if hopes else [])]
    costs = [name for name in COSTS if name in SHOWN or name == objective.cost]
    costs += ["latency"] * ("latency" in best.metrics and "latency" not in costs)
    heads += [*(COSTS[name] for name in costs), "s"]
    front = {trial.id for trial in pareto_front(trials, objective.cost)}
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for i, trial in enumerate(done[:LISTED]):
        spec = trial.recipe.model
        outer = (spec.outer_width(stage) for stage in range(len(spec.depths)))
        cells = [
            trial.id + "\\*" * (trial.id in front),
            *(to_text(trial.hyperparameters.get(name, "")) for name in names),
            "-".join(map(str, outer)),
            f"{trial.accuracy:.2%}",
            *([f"{hopes[i]:.2%}"] if hopes else []),
            *(_cost(name, trial.metrics[name]) for name in costs),
            f"{trial.metrics['seconds']:.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return [
        f"The best is trial {best.id}. \\*: none that costs less, in "
        f"{COSTS[objective.cost]}, is as good; `trials.csv` has all."
        + (EXPECTED if hopes else ""),
        "",
        *lines,
        "",
        *sentences(done),
        "",
        "| hyperparameter | share of the variance of accuracy | by chance, up to |",
        "|---|---|---|",
        *(
            f"| {name} | {found.share:.0%} | {found.chance:.0%} |"
            for name, found in importance(done).items()
        ),
        "",
        *(
            f"![{name}]({name}.png)"
            for name in ("effects", "importance", "pareto", "shapes", "parallel")
        ),
        "",
    ]


def _cost(name: str, value: float) -> str:
    if name == "latency":
        return f"{1e3 * value:.2f} ms"
    return in_units(value, {"macs": "MAC", "memory": "B"}.get(name, ""))


def _comparison(compared: dict[str, Any]) -> list[str]:
    """Winner and default on test images, by `retrain`."""
    pairs = zip(compared["seeds"], compared["best"], compared["default"], strict=True)
    finalists = compared.get("finalists", ())
    return [
        "## On test images",
        "",
        f"The winner is trial {compared['trial']}. It and the default, trained anew: "
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
