"""The runs and searches below a folder, the best first. No TensorFlow."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from keras_resnet.cost import estimate_cost
from keras_resnet.errors import RunFolderError, UserError
from keras_resnet.files import read_json
from keras_resnet.recipe import Recipe
from keras_resnet.run import EXPORT, RECIPE, Run
from keras_resnet.statistics import wilson
from keras_resnet.tasks import ACCURACY, TASKS, best_epoch
from keras_resnet.units import count

DEPTH = 5  # folders below which no run is looked for
SEARCH = "search.json"  # in the folder of a search, with a run in each trial's
BEST = "best.json"  # the recipe of its best trial, once it has ended


class Entry(NamedTuple):
    """A run, or a search by its best trial.

    Attributes:
        path: its folder.
        kind: "run" or "search".
        data: the source of its images.
        network: its name.
        accuracy: of the test images; of a search and an unfinished run of the
            validation images, in their best epoch. None of tasks that have none.
        low: lower end of the 95 % confidence interval; None of validation images.
        high: upper end.
        macs: multiply-adds an image; None where the network's input is open.
        params: parameters.
        latency: milliseconds an image, as its last export was checked here.
        state: "finished", "epoch 4 of 8", "running, epoch 4 of 8", "12 trials".
        metric: what `score` is: accuracy, or what the recipe's task has instead.
        score: of the same images; more is better.
    """

    path: Path
    kind: str
    data: str
    network: str
    accuracy: float | None
    low: float | None
    high: float | None
    macs: int | None
    params: int
    latency: float | None
    state: str
    metric: str
    score: float | None


# What a damaged file of a run raises where it is read.
_DAMAGE = (UserError, KeyError, ValueError, TypeError, AttributeError, IndexError)


def find(folder: Path) -> list[Entry]:
    """All runs and searches below a folder, the best of each metric first.

    Trials and what a search trained at its end are in the search's entry.

    Raises:
        RunFolderError: no such folder.
    """
    if not folder.is_dir():
        raise RunFolderError(f"folder: {folder} is not a folder")
    places = list(_places(folder, DEPTH))
    sources = dict(filter(None, map(_fingerprint, places)))
    entries = [entry for path in places if (entry := _entry(path, sources))]
    return sorted(entries, key=lambda entry: (*rank(entry), entry.path))


def rank(entry: Entry) -> tuple[int, float]:
    """What the best comes first by: accuracies, then the other tasks' metrics."""
    metrics = [row.score.key for row in TASKS.values()]
    return metrics.index(entry.metric), -(entry.score or 0)


def _places(folder: Path, depth: int) -> Iterator[Path]:
    """Folders of runs and searches."""
    if (folder / SEARCH).is_file() or (folder / RECIPE).is_file():
        yield folder
    elif depth:
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.is_symlink():
                yield from _places(path, depth - 1)


def _fingerprint(path: Path) -> tuple[str, str] | None:
    """The fingerprint of a run's data, and what they are called."""
    try:
        data = Run(path).data
        return data["fingerprint"], data["source"]
    except (UserError, KeyError):
        return None


def _entry(path: Path, sources: Mapping[str, str]) -> Entry | None:
    """What is known of a folder; None of one that isn't a run's or search's."""
    try:
        if (path / SEARCH).is_file():
            return _search(path, sources)
        recipe = Run(path).recipe
    except _DAMAGE:
        return None
    try:
        return _run(path, recipe)
    except _DAMAGE:
        cost, metric = estimate_cost(recipe.model), TASKS[recipe.task].score.key
        return Entry(
            path, "run", "", recipe.model.name, None, None, None, cost.macs,
            cost.params, None, "damaged", metric, None,
        )  # fmt: skip


def _number(value: Any, low: float, high: float = sys.float_info.max) -> float:
    """A number in a range.

    Raises:
        ValueError: it is none.
    """
    if type(value) not in (int, float) or not low <= value <= high:
        raise ValueError(f"{value!r} is no such number")
    return float(value)


def _text(value: Any) -> str:
    """A text, or a ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _run(path: Path, recipe: Recipe) -> Entry:
    run = Run(path)
    history = run.history
    cost = estimate_cost(recipe.model)
    score = low = high = None
    measure = TASKS[recipe.task].score
    least = 0 if measure is ACCURACY else -sys.float_info.max
    state = run.unfinished or "not tested"
    if run.is_finished:
        result = run.result
        score = _number(result[f"test_{measure.key}"], least, 1)
        if measure is ACCURACY:
            images = round(_number(result["test_images"], 1))
            low, high = wilson(score * images, images)
        state = "finished"
    elif history:
        score = _validated(run)
    if state != "finished" and run.locked_by is not None:
        state = f"running, {state}"
    return Entry(
        path, "run", _text(run.data["source"]), recipe.model.name,
        score if measure is ACCURACY else None, low, high,
        cost.macs, cost.params, _latency(path), state, measure.key, score,
    )  # fmt: skip


def _search(path: Path, sources: Mapping[str, str]) -> Entry:
    """A search, by the most accurate of its trials.

    What its data are called is known of runs on them, if its version didn't write it.
    """
    trials = [Run(found.parent) for found in path.glob(f"tuner/*/run/{RECIPE}")]
    begun = [trial for trial in trials if trial.history]
    best = max(
        begun,
        key=_validated,
        default=None,
    )
    if (path / BEST).is_file():  # of equal ones the cheapest, or the expected best
        winner = Recipe.from_json((path / BEST).read_text("utf-8"))
        best = next((trial for trial in begun if trial.recipe == winner), best)
    spec = best.recipe.model if best else None
    cost = estimate_cost(spec) if spec else None
    settings = read_json(path / SEARCH)
    fingerprint = settings["data"]
    unnamed = f"unnamed, {fingerprint[:8]}"
    source = settings.get("source") or sources.get(fingerprint, unnamed)
    state = count(len(trials), "trial")
    score = _validated(best) if best else None
    return Entry(
        path,
        "search",
        source,
        spec.name if spec else "",
        score,
        None,
        None,
        cost.macs if cost else None,
        cost.params if cost else 0,
        None,
        f"running, {state}" if Run(path).locked_by is not None else state,
        ACCURACY.key,
        score,
    )


def _validated(run: Run) -> float:
    """The score on the validation images in the epoch that its model is of."""
    task = run.recipe.task
    key = f"val_{TASKS[task].score.key}"
    return _number(best_epoch(task, run.history).get(key, 0), -sys.float_info.max, 1)


def _latency(path: Path) -> float | None:
    checks = sorted(
        (path / EXPORT).glob("[0-9]*/assets.extra/check.json"),
        key=lambda check: int(check.parts[-3]),
    )
    if not checks:
        return None
    for row in read_json(checks[-1])["signatures"]:
        if row["signature"] == "serving_default":
            return float(row["milliseconds"])
    return None
