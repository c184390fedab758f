"""Results of an experiment's runs, run by run and arm by arm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

from keras_resnet import files
from keras_resnet.cost import estimate_cost
from keras_resnet.experiments.claims import Arm, Claim, Experiment
from keras_resnet.experiments.scale import Setting, run_name
from keras_resnet.run import Run

FAILED = "failed.json"
PROBED = "probe_{}.json"


class Outcome(NamedTuple):
    """A finished run.

    Attributes:
        arm: what was run.
        seed: of it.
        folder: the run folder.
        measures: a number for each key of `MEASURES` that it has.
        history: a row for each epoch.
        probes: name -> its result.
        macs: multiply-adds an image.
        params: trainable parameters.
        failed: why training failed; "" if it didn't.
        classes: of its data.
    """

    arm: Arm
    seed: int
    folder: Path
    measures: dict[str, float]
    history: list[dict[str, float]]
    probes: dict[str, dict[str, Any]]
    macs: int
    params: int
    failed: str = ""
    classes: int = 0


class Measure(NamedTuple):
    """A column: its label, unit, factor to that unit, format, and whether it is learnt.

    What isn't learnt, such as seconds, is known of networks that haven't learnt too.
    """

    label: str
    unit: str
    scale: float
    form: str
    learnt: bool = False


MEASURES: dict[str, Measure] = {
    "test_error": Measure("test error", "%", 100, ".2f", learnt=True),
    "train_error": Measure("training error", "%", 100, ".2f", learnt=True),
    "val_error": Measure("validation error", "%", 100, ".2f", learnt=True),
    "step_seconds": Measure("time a training step", "ms", 1000, ".0f"),
    "response": Measure("mean response", "", 1, ".3f", learnt=True),
    "gradient_spread": Measure("gradients' spread", "powers of ten", 1, ".2f"),
    "form_a_seconds": Measure("form (a)", "ms a batch", 1000, ".0f"),
    "form_b_seconds": Measure("form (b)", "ms a batch", 1000, ".0f"),
    "form_c_seconds": Measure("form (c)", "ms a batch", 1000, ".0f"),
}
_ERRORS = ("test_error", "train_error", "val_error")


def collect(
    experiment: Experiment, setting: Setting, folder: Path, seeds: Sequence[int] | None
) -> list[Outcome]:
    """All runs of an experiment that have ended, arm by arm.

    Of arms that share their runs the first is taken, but for those that a claim names.

    Args:
        experiment: whose.
        setting: which.
        folder: of all settings.
        seeds: only these; all that are there if None.
    """
    place = folder / setting.name
    outcomes = []
    claimed = {n for claim in experiment.claims for n in (claim.less, claim.more)}
    seen: set[str] = set()
    for arm in experiment.arms_at(setting.budget):
        stem = run_name(experiment, arm, setting, 0).removesuffix("0")
        if stem in seen and arm.name not in claimed:
            continue
        seen.add(stem)
        found = {int(path.name.removeprefix(stem)): path
                 for path in place.glob(f"{stem}*")}  # fmt: skip
        for seed, path in sorted(found.items()):
            if seeds is None or seed in seeds:
                outcome = _read(arm, seed, path)
                outcomes += [outcome] if outcome else []
    return outcomes


def _read(arm: Arm, seed: int, folder: Path) -> Outcome | None:
    """A run that has ended; None of another."""
    if (folder / FAILED).exists():
        reason = str(files.read_json(folder / FAILED)["reason"])
        measures = dict.fromkeys(_ERRORS, math.inf)
        return Outcome(arm, seed, folder, measures, [], {}, 0, 0, reason)
    run = Run(folder)
    if not run.is_finished:
        return None
    result, history = run.result, run.history
    measures = {
        "test_error": 1 - result["test_accuracy"],
        "train_error": 1 - history[-1]["accuracy"],
        "val_error": 1 - history[-1]["val_accuracy"],
    }
    probes = {}
    for file in sorted(folder.glob(PROBED.format("*"))):
        probes[file.stem.removeprefix("probe_")] = found = files.read_json(file)
        measures |= found["measures"]
    spec = run.recipe.model
    cost = estimate_cost(spec)
    return Outcome(
        arm,
        seed,
        folder,
        measures,
        history,
        probes,
        macs=cost.macs or 0,
        params=cost.params,
        classes=spec.classes,
    )


def values_of(
    claim: Claim, outcomes: Sequence[Outcome]
) -> tuple[list[float], list[float]]:
    """A claim's measure of each run: of the arm with less, and of that with more."""
    less, more = (
        [
            outcome.measures[claim.measure]
            for outcome in outcomes
            if outcome.arm.name == name and claim.measure in outcome.measures
        ]
        for name in (claim.less, claim.more)
    )
    return less, more


class Row(NamedTuple):
    """An arm's runs together: mean and standard deviation of each measure."""

    arm: Arm
    seeds: int
    params: int
    macs: int
    means: dict[str, float]
    spreads: dict[str, float]


def by_arm(outcomes: Sequence[Outcome]) -> list[list[Outcome]]:
    """The runs of each arm, in the experiment's order."""
    names = dict.fromkeys(outcome.arm.name for outcome in outcomes)
    return [[run for run in outcomes if run.arm.name == name] for name in names]


def summarize(outcomes: Sequence[Outcome]) -> list[Row]:
    """A row for each arm, in the experiment's order."""
    rows = []
    for runs in by_arm(outcomes):
        keys = dict.fromkeys(key for run in runs for key in run.measures)
        values = {
            key: [run.measures[key] for run in runs if key in run.measures]
            for key in keys
        }
        rows.append(
            Row(
                runs[0].arm,
                len(runs),
                runs[0].params,
                runs[0].macs,
                {key: mean(numbers) for key, numbers in values.items()},
                {key: _spread(numbers) for key, numbers in values.items()},
            )
        )
    return rows


def _spread(numbers: Sequence[float]) -> float:
    """Standard deviation; not a number of one, or where a run diverged."""
    finite = len(numbers) > 1 and all(map(math.isfinite, numbers))
    return stdev(numbers) if finite else math.nan
