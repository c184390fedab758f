"""The folder of a search: its settings, its trials and what they came to.

No TensorFlow.
"""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

from keras_resnet import files, limits, statistics
from keras_resnet.recipe import Recipe
from keras_resnet.run import LOCK, Run
from keras_resnet.spec import ResNetSpec
from keras_resnet.units import count
from tuning.decode import hyperparameters_of
from tuning.objective import Objective, SearchError

# What is in the folder of a search.
SEARCH = "search.json"  # its settings
PROJECT = "tuner"  # KerasTuner's state, and a run folder for each trial
BEST = "best.json"  # the best trial's recipe
REPORT = "report"
RETRAINED = "retrained"  # folder of the winner's and the default's runs
COMPARISON = f"{RETRAINED}/comparison.json"


DEFAULT = "tuner/default"  # value of a trial of the default: the number of its seed
# What settings are where a search of an earlier version has none.
ABSENT = {
    "baseline": 0,
    "within": None,
    "cost": "macs",
    "against": "default",
    "format": "saved_model",
    "quantize": None,
}


class Trial(NamedTuple):
    """A trial.

    Attributes:
        id: KerasTuner's.
        status: KerasTuner's: "COMPLETED", "FAILED", "RUNNING".
        reason: why it failed.
        values: its hyperparameters, with KerasTuner's own.
        metrics: of its best epoch, and what it costs.
        run: its run folder.
    """

    id: str
    status: str
    reason: str
    values: dict[str, Any]
    metrics: dict[str, float]
    run: Path

    @property
    def trial(self) -> str:
        """Deprecated: `id`."""
        _deprecated("Trial.trial", "id")
        return self.id

    @property
    def recipe(self) -> Recipe:
        """Its recipe."""
        return Run(self.run).recipe

    @property
    def refused(self) -> bool:
        """Whether it was over the budget, and not trained."""
        return is_refused(self.status, self.reason)

    @property
    def is_default(self) -> bool:
        """Whether it is the network that the search started from."""
        return DEFAULT in self.values

    @property
    def accuracy(self) -> float:
        """Of the validation images."""
        return self.metrics["val_accuracy"]

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Its values; of Hyperband's own the epochs only.

        Those of the network are read off it: values that don't go together were
        changed to the nearest, and widths to what a budget leaves.
        """
        values = {k: v for k, v in self.values.items() if not k.startswith("tuner/")}
        if Run(self.run).exists:
            found = _read_off(self.run.absolute())
            values = {name: found.get(name, v) for name, v in values.items()}
        if "tuner/epochs" in self.values:
            values["epochs"] = self.values["tuner/epochs"]
        return values


class SearchResult(NamedTuple):
    """What a search came to.

    Attributes:
        folder: the search's.
        best: the best trial.
        recipe: of the best trial; `best.json` in the folder.
        trials: all of them.
    """

    folder: Path
    best: Trial
    recipe: Recipe
    trials: list[Trial]

    @property
    def rows(self) -> list[Trial]:
        """Deprecated: `trials`."""
        _deprecated("SearchResult.rows", "trials")
        return self.trials


def _deprecated(old: str, new: str) -> None:
    warnings.warn(f"{old}: use {new}", DeprecationWarning, stacklevel=3)


@functools.cache
def _read_off(run: Path) -> dict[str, Any]:
    """Hyperparameters of a trial's network, which never changes."""
    base = files.read_json(run.parents[2] / SEARCH)["recipe"]["model"]
    return hyperparameters_of(Run(run).recipe.model, ResNetSpec.from_dict(base))


def is_refused(status: str, reason: str) -> bool:
    """Whether a trial was over the budget, and not trained."""
    return status == "FAILED" and reason.startswith("budget:")


def in_words(trials: Sequence[Trial]) -> str:
    """How many trials there are, and what became of them."""
    refused = sum(trial.refused for trial in trials)
    parts = {
        "completed": len(completed(trials)),
        "of the default": len(defaults(trials)),
        "over the budget": refused,
        "failed": sum(trial.status == "FAILED" for trial in trials) - refused,
    }
    told = [f"{number} {what}" for what, number in parts.items() if number]
    return f"{count(len(trials), 'trial')} ({', '.join(told)})"


def names_of(trials: Iterable[Trial]) -> list[str]:
    """Hyperparameters of any of them, in their order."""
    return list(
        dict.fromkeys(name for trial in trials for name in trial.hyperparameters)
    )


def to_text(value: Any) -> str:
    """A hyperparameter's value, to read."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def check_place(folder: Path) -> None:
    """Refuses a folder in which no search can be begun or resumed.

    Raises:
        SearchError: it holds something else.
    """
    own = (LOCK, "tracking")
    if (folder / SEARCH).exists():
        return
    if folder.is_file() or (
        folder.is_dir() and any(entry.name not in own for entry in folder.iterdir())
    ):
        raise SearchError(
            f"folder: {folder} exists and is not a search; name a new one"
        )
    files.check_folder(folder, "folder")


def read_settings(folder: Path) -> dict[str, Any]:
    """What a search was asked for; fields that it had none of have their default.

    Raises:
        SearchError: the file holds something else.
    """
    path = folder / SEARCH
    found: Any = files.read_json(path)
    if not isinstance(found, dict) or "recipe" not in found:
        raise SearchError(f"folder: {path} is damaged: it has no search's settings")
    baseline = (ABSENT | found)["baseline"]
    if type(baseline) is not int:
        raise SearchError(f"folder: {path} is damaged: baseline is {baseline!r}")
    return ABSENT | found


def open_search(
    folder: Path, settings: dict[str, Any], source: str | None = None
) -> None:
    """Makes the folder of a search, or checks that it holds this one.

    Args:
        folder: the search's.
        settings: what has to be the same when it is resumed.
        source: what the data are called, for those who read.

    Raises:
        SearchError: it holds another search, or something else.
    """
    path = folder / SEARCH
    settings = json.loads(json.dumps(settings))
    if path.exists():
        before = read_settings(folder)
        # Fields that an earlier version had none of have their default.
        recipe = Recipe.from_dict(before["recipe"]).to_dict()
        same = not Recipe.from_dict(settings["recipe"]).differences(recipe)
        before["recipe"] = settings["recipe"] if same else recipe
        before = json.loads(json.dumps(before))
        differing = [k for k in settings if before.get(k) != settings[k]]
        if "seed" in differing and "data" in differing:  # which it splits
            differing.remove("data")
        if differing:
            raise SearchError(
                f"folder: {folder} holds a search with another {', '.join(differing)}; "
                "name a new folder"
            )
        return
    check_place(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_json(path, {**settings, "source": source})
    except OSError as error:
        raise SearchError(
            f"folder: can't write to {folder}: {error.strerror}"
        ) from None


def read_trials(folder: Path) -> list[Trial]:
    """All trials of a search, in the order of their ids."""
    paths = folder.glob(f"{PROJECT}/trial_*/trial.json")
    return sorted(map(read_trial, paths), key=lambda trial: int(trial.id))


def read_trial(path: Path) -> Trial:
    """A trial from its file.

    Raises:
        SearchError: it is damaged.
    """
    try:
        with files.reading():
            fields = json.loads(limits.read_text(path))
            metrics = fields["metrics"]["metrics"]
            values = dict(fields["hyperparameters"]["values"])
            int(str(fields["trial_id"]))  # by which trials are sorted
            return Trial(
                str(fields["trial_id"]),
                str(fields["status"]),
                str(fields["message"] or ""),
                values,
                {
                    name: float(each["observations"][-1]["value"][0])
                    for name, each in metrics.items()
                },
                path.parent / "run",
            )
    except ValueError as error:
        raise SearchError(f"search: can't read {path}: {error}") from None


def completed(trials: Iterable[Trial]) -> list[Trial]:
    """Candidates that were trained to their end."""
    ended = (trial for trial in trials if trial.status == "COMPLETED")
    return [trial for trial in ended if not trial.is_default]


def defaults(trials: Iterable[Trial]) -> list[Trial]:
    """Trials of the default that were trained to their end."""
    ended = (trial for trial in trials if trial.status == "COMPLETED")
    return [trial for trial in ended if trial.is_default]


def reference(trials: Sequence[Trial], objective: Objective) -> float | None:
    """The accuracy that the cheapest network must keep, if any is known yet."""
    accuracies = [trial.accuracy for trial in defaults(trials)]
    default = [mean(accuracies)] if accuracies else []
    if objective.against == "best":
        default += [trial.accuracy for trial in completed(trials)]
    return max(default, default=None)


def pareto_front(trials: Sequence[Trial], cost: str = "macs") -> list[Trial]:
    """Candidates that none is better than for no more cost, the cheapest first."""
    return statistics.pareto_front(
        completed(trials),
        cost=lambda trial: trial.metrics[cost],
        quality=lambda trial: trial.accuracy,
    )
