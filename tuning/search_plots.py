"""Plots of a search's trials. No TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.figures import (
    COLORS,
    GRAY,
    SMALL,
    caption,
    new_figure,
    write_figure,
    write_note,
)
from keras_resnet.plan import make_plan
from keras_resnet.spec import EXPANSION, ResNetSpec
from keras_resnet.units import in_units
from tuning.importance import Effect, Importance
from tuning.noise import SURE, Noise
from tuning.objective import COSTS
from tuning.trials import (
    Trial,
    completed,
    defaults,
    names_of,
    pareto_front,
    to_text,
)

UNITS = {
    "macs": ("M", 1e6),
    "params": ("thousand", 1e3),
    "memory": ("MB", 1e6),
    "latency": ("ms", 1e-3),
}

FEW = 8  # trials that tell nothing of importance are fewer
WIDE = 8  # times the least cost, from which on the axis is logarithmic
OFF = -0.12  # height of a hyperparameter that a trial doesn't have
MANY, GROUPS = 10, 5  # of more than MANY values, means are of GROUPS groups
APART = 0.12  # least distance of two ticks, of the axis


def shape_of(trial: Trial, base: ResNetSpec) -> dict[str, float]:
    """Depth, width over the base's, and cardinality of a trial's network."""
    spec = trial.recipe.model
    expansion = {
        name: EXPANSION if s.block == "bottleneck" else 1
        for name, s in (("own", spec), ("base", base))
    }
    own = spec.outer_width(0) / expansion["own"]
    return {
        "depth": make_plan(spec).depth,
        "k": own / (base.outer_width(0) / expansion["base"]),
        "C": spec.cardinality,
    }


def draw_pareto(
    trials: Sequence[Trial], cost: str, noise: Noise | None, path: Path
) -> None:
    """Accuracy against cost, the Pareto front, and the default if it was trained."""
    figure, axes = new_figure(6, 4)
    unit, scale = UNITS[cost]
    error = 100 * SURE * noise.deviation if noise else None

    def draw(some: Sequence[Trial], label: str, **style: Any) -> None:
        costs = [trial.metrics[cost] / scale for trial in some]
        accuracies = [100 * trial.accuracy for trial in some]
        axes.errorbar(costs, accuracies, yerr=error, label=label, elinewidth=0.6,
                      capsize=2, **style)  # fmt: skip

    front, done = pareto_front(trials, cost), completed(trials)
    rest = [trial for trial in done if trial not in front]
    draw(rest, "trials", color=GRAY, marker="o", linestyle="", alpha=0.6)
    if defaults(trials):
        draw(defaults(trials), "default", color=COLORS[1], marker="s", linestyle="")
    draw(front, "none better for less", color=COLORS[0], marker="o",
         drawstyle="steps-post")  # fmt: skip
    for trial in front:
        point = (trial.metrics[cost] / scale, 100 * trial.accuracy)
        axes.annotate(trial.id, point, xytext=(4, 4), textcoords="offset points")
    axes.set(xlabel=f"{COSTS[cost]} ({unit})", ylabel="validation accuracy (%)")
    axes.margins(y=0.1)  # for the numbers
    costs = [trial.metrics[cost] for trial in done]
    if max(costs) > WIDE * min(costs):
        axes.set_xscale("log")
        _tick(axes, [10.0**i * digit for i in range(-6, 9) for digit in (1, 2, 5)])
    figure.legend(loc="outside upper center", ncols=3)
    if noise:
        caption(figure, "Bars: 95 % of the default's trainings lie so near their mean.")
    write_figure(path, figure)


def draw_parallel(trials: Sequence[Trial], path: Path) -> None:
    """A line a trial over its hyperparameters, the better the darker."""
    from matplotlib import colormaps

    names = names_of(trials)
    figure, axes = new_figure(max(1.6 * len(names) + 2, 5), 4.2, grid="x")

    def label(place: int, height: float, text: str) -> None:
        box = {"boxstyle": "square,pad=0.1", "color": "white", "alpha": 0.8}
        axes.text(place + 0.04, height, text, fontsize=SMALL, va="center", bbox=box)

    columns: list[list[float]] = []
    for place, name in enumerate(names):
        values = [trial.hyperparameters.get(name) for trial in trials]
        ordered = sorted({v for v in values if v is not None},
                         key=lambda v: (isinstance(v, str), v))  # fmt: skip
        # Evenly by rank: what is searched on a logarithm is not crowded at one end.
        steps = max(len(ordered) - 1, 1)
        scale = {value: rank / steps for rank, value in enumerate(ordered)}
        columns.append([scale.get(value, OFF) for value in values])
        for rank in np.linspace(0, len(ordered) - 1, min(len(ordered), 6)):
            value = ordered[round(rank)]
            label(place, scale[value], to_text(value))
        if None in values:
            label(place, OFF, "off")
    accuracy = np.array([trial.accuracy for trial in trials])
    low, high = accuracy.min(), accuracy.max()
    columns.append([(a - low) / max(high - low, 1e-9) for a in accuracy])
    for height, value in {0: low, int(high > low): high}.items():
        label(len(names), height, f"{value:.2%}")
    for i in np.argsort(accuracy):
        axes.plot(
            range(len(columns)),
            [column[i] for column in columns],
            color=colormaps["viridis_r"](0.1 + 0.9 * columns[-1][i]),
            alpha=0.7,
        )
    axes.set_xticks(range(len(columns)), [*names, "accuracy"])
    axes.set(yticks=[], xlim=(-0.1, len(names) + 0.6), ylim=(OFF - 0.08, 1.08))
    axes.spines[:].set_visible(False)
    write_figure(path, figure)


def draw_importance(shares: Mapping[str, Importance], trials: int, path: Path) -> None:
    """A bar a hyperparameter, and up to where chance would bring it.

    Where so many trials don't tell, a note.
    """
    if trials < FEW:
        write_note(path, f"too few trials for importance: {trials}, not {FEW}")
        return
    if not any(each.share > each.chance for each in shares.values()):
        write_note(path, "no hyperparameter matters more than chance would have it")
        return
    figure, axes = new_figure(5, 0.35 * len(shares) + 1.4, grid="x")
    names = [*shares][::-1]
    axes.barh(names, [100 * shares[name].share for name in names], color=COLORS[0])
    axes.plot([100 * shares[name].chance for name in names], names, "|",
              color=COLORS[1], markersize=14, label="chance, 95 of 100")  # fmt: skip
    axes.set(xlabel="variance of accuracy between its values (%)", xlim=(0, 100))
    axes.legend(fontsize=SMALL, loc="lower right")
    write_figure(path, figure)


def draw_effects(found: Mapping[str, Sequence[Effect]], path: Path) -> None:
    """The accuracy that each value gives, with its interval: partial dependence."""
    if not found:
        write_note(path, "too few trials for their values")
        return
    columns = min(len(found), 4)
    rows = math.ceil(len(found) / columns)
    figure, panels = new_figure(
        2.8 * columns, 2.6 * rows, rows, columns, sharey=True, squeeze=False
    )
    for axes in panels.flat[len(found) :]:
        axes.set_axis_off()
    for axes, (name, values) in zip(panels.flat, found.items(), strict=False):
        axes.errorbar(
            range(len(values)),
            [100 * effect.mean for effect in values],
            yerr=[100 * effect.error for effect in values],
            color=COLORS[0], marker="o", capsize=3,
        )  # fmt: skip
        axes.set_xticks(
            range(len(values)),
            [effect.value for effect in values],
            fontsize=SMALL,
            rotation=30 if max(len(effect.value) for effect in values) > 6 else 0,
        )
        axes.set(xlabel=name)
        axes.margins(x=0.15)
    for axes in panels[:, 0]:
        axes.set(ylabel="accuracy (%)")
    write_figure(path, figure)


def draw_shapes(trials: Sequence[Trial], base: ResNetSpec, path: Path) -> None:
    """Accuracy by depth, width and cardinality, where these differ; means of values."""
    shapes = [shape_of(trial, base) for trial in trials]
    varied = [name for name in shapes[0] if len({shape[name] for shape in shapes}) > 1]
    if not varied:
        write_note(path, "all trials have one depth, width and cardinality")
        return
    accuracy = np.array([100 * trial.accuracy for trial in trials])
    costs = [trial.metrics["macs"] for trial in trials]
    low, high = (in_units(cost, "MAC") for cost in (min(costs), max(costs)))
    labels = {
        "depth": "depth (layers)",
        "k": "width over the base's",
        "C": "cardinality",
    }
    figure, [panels] = new_figure(
        2 + 3 * len(varied), 3.6, columns=len(varied), sharey=True, squeeze=False
    )
    figure.suptitle(f"networks of {low} to {high}", fontsize=10)
    for axes, name in zip(panels, varied, strict=True):
        values = np.array([shape[name] for shape in shapes])
        axes.scatter(values, accuracy, color=GRAY, alpha=0.6)
        groups = _groups(values)
        axes.plot(
            [values[group].mean() for group in groups],
            [accuracy[group].mean() for group in groups],
            color=COLORS[0],
            marker="_",
            label="mean",
        )
        axes.set(xlabel=labels[name])
        axes.set_xscale("log", base=2)
        _tick(axes, sorted(set(values)))
    panels[0].set(ylabel="validation accuracy (%)")
    panels[0].legend()
    write_figure(path, figure)


def _groups(values: Any) -> list[Any]:
    """Indices of equal values; of many values, of groups of near ones."""
    known = sorted(set(values))
    if len(known) > MANY:
        return np.array_split(np.argsort(values), GROUPS)
    return [np.flatnonzero(values == value) for value in known]


def _tick(axes: Any, values: Sequence[float]) -> None:
    """Ticks of a logarithmic axis, as many as there is room for."""
    low, high = axes.get_xlim()
    shown: list[float] = []
    for value in values:
        room = not shown or np.log(value / shown[-1]) > APART * np.log(high / low)
        if low <= value <= high and room:
            shown.append(value)
    axes.set_xticks(shown, [f"{value:.3g}" for value in shown])
    axes.minorticks_off()
