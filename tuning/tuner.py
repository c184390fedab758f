"""KerasTuner's oracles that know of costs, and a tuner that trains in run folders.

The state of a search is KerasTuner's own. What is added: candidates that cost too much
are never trials, files are written whole, a failed trial is a line and not the end, and
a trial that was cut off goes on from its own folder.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from functools import cmp_to_key
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import keras_tuner
import numpy as np
from keras_tuner.src.engine import stateful  # the base whose `save` is wrapped

from keras_resnet import runfolder
from keras_resnet.data import Splits
from keras_resnet.tracking import Tracker, closing
from tuning.budget import quick_cost
from tuning.hypermodel import ResidualHyperModel

REFUSALS = 10_000  # in a row, after which there is nothing left to find
LATENCY_RUNS = 20  # the median of which is the latency
PARETO_WEIGHT = 0.1  # accuracy that a tenfold of the multiply-adds is worth


class Sought(NamedTuple):
    """An objective: the metric that KerasTuner compares, which is to be great."""

    metric: str
    meaning: str


OBJECTIVES = {
    "accuracy": Sought("val_accuracy", "validation accuracy at the best epoch"),
    "pareto": Sought(
        "score", "accuracy, less a tenth for each tenfold of the multiply-adds"
    ),
}


class _Oracle:
    """What all oracles here have, before KerasTuner's own."""

    hypermodel: ResidualHyperModel
    seconds: float | None = None  # of training, that the search may take
    on_change: Callable[[], None] = staticmethod(lambda: None)  # a trial began or ended
    trials: dict[str, Any]
    max_trials: int | None

    @keras_tuner.synchronized  # type: ignore[untyped-decorator]
    def create_trial(self, tuner_id: str) -> Any:
        """The next trial; stopped once the time is spent."""
        before = self.max_trials
        if self.seconds and spent(self.trials.values()) >= self.seconds:
            self.max_trials = len(self.trials)
        try:
            trial = super().create_trial(tuner_id)  # type: ignore[misc]
        finally:
            self.max_trials = before
        self.on_change()
        return trial

    @keras_tuner.synchronized  # type: ignore[untyped-decorator]
    def end_trial(self, trial: Any) -> None:
        """Notes what came of a trial."""
        super().end_trial(trial)  # type: ignore[misc]
        self.on_change()

    def _random_values(self) -> dict[str, Any] | None:
        """A sample within the budget that was not tried."""
        for _ in range(REFUSALS):
            values = super()._random_values()  # type: ignore[misc]
            if values is None or self._affordable(values):
                return values  # type: ignore[no-any-return]
            self._tried_so_far.add(self._compute_values_hash(values))  # type: ignore[attr-defined]
        return None

    def _affordable(self, values: dict[str, Any]) -> bool:
        return self.hypermodel.refusal(SimpleNamespace(values=values)) is None

    def save(self) -> None:
        """Writes the state, whole or not at all."""
        path = Path(self._get_oracle_fname())  # type: ignore[attr-defined]
        with runfolder.replacing(path) as temporary:
            stateful.Stateful.save(self, str(temporary))

    def _save_trial(self, trial: Any) -> None:
        folder = Path(self._get_trial_dir(trial.trial_id))  # type: ignore[attr-defined]
        with runfolder.replacing(folder / "trial.json") as temporary:
            trial.save(str(temporary))

    def reload(self) -> None:
        """Reads the state; trials that a kill left between two files run again."""
        super().reload()  # type: ignore[misc]
        queue: list[str] = self._retry_queue  # type: ignore[attr-defined]
        for trial_id in sorted(self.trials, reverse=True):
            trial = self.trials[trial_id]
            if trial.status == "RUNNING" and trial_id not in queue:
                queue.append(trial_id)


class RandomOracle(_Oracle, keras_tuner.oracles.RandomSearchOracle):  # type: ignore[misc]
    """Random search."""


class HyperbandOracle(_Oracle, keras_tuner.oracles.HyperbandOracle):  # type: ignore[misc]
    """Hyperband (Li 2018)."""


class BayesianOracle(_Oracle, keras_tuner.oracles.BayesianOptimizationOracle):  # type: ignore[misc]
    """Bayesian optimization with Gaussian processes."""

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """The process' optimum; a random sample where that is too expensive."""
        found: dict[str, Any] = super().populate_space(trial_id)
        values = found.get("values")
        if values and not self._affordable(values):
            values = self._random_values()
            if values is None:
                return {"status": "STOPPED", "values": None}
            found = {"status": "RUNNING", "values": values}
        return found


class GridOracle(_Oracle, keras_tuner.oracles.GridSearchOracle):  # type: ignore[misc]
    """Every combination; those that are too expensive are noted and not trained."""

    @keras_tuner.synchronized  # type: ignore[untyped-decorator]
    def create_trial(self, tuner_id: str) -> Any:
        """The next combination within the budget."""
        while True:
            trial = super().create_trial(tuner_id)
            if trial.status != "RUNNING":
                return trial
            reason = self.hypermodel.refusal(trial.hyperparameters)
            if reason is None:
                return trial
            trial.status, trial.message = "FAILED", reason
            self.end_trial(trial)
            self._count_refused(1)

    def _count_refused(self, more: int) -> None:
        if self.max_trials:
            self.max_trials += more

    def reload(self) -> None:
        """Reads the state; KerasTuner keeps nothing of where in the grid it was."""
        super().reload()
        values = {name: t.hyperparameters.values for name, t in self.trials.items()}

        def order(one: str, other: str) -> int:
            return int(self._compare(values[one], values[other]))

        self._populate_next = sorted(values, key=cmp_to_key(order))
        for trial_id in self._populate_next:
            self._ordered_ids.insert(trial_id)
        refused = [t for t in self.trials.values() if is_refused(t)]
        self._count_refused(len(refused))


ORACLES: dict[str, Any] = {
    "random": RandomOracle,
    "bayesian": BayesianOracle,
    "hyperband": HyperbandOracle,
    "grid": GridOracle,
}


def is_refused(trial: Any) -> bool:
    """Whether a trial of KerasTuner's was too expensive, and not trained."""
    return trial.status == "FAILED" and (trial.message or "").startswith("budget:")


def spent(trials: Any) -> float:
    """Seconds that trials took."""
    known = [t.metrics for t in trials if t.metrics.exists("seconds")]
    return float(sum(metrics.get_best_value("seconds") for metrics in known))


def make_oracle(
    kind: str,
    hypermodel: ResidualHyperModel,
    *,
    objective: str,
    trials: int,
    seed: int,
    on_change: Callable[[], None] = lambda: None,
) -> Any:
    """An oracle of one of `ORACLES` over the whole declared space."""
    sought = keras_tuner.Objective(OBJECTIVES[objective].metric, "max")
    limits: dict[str, Any] = (
        {"max_epochs": hypermodel.recipe.epochs}
        if kind == "hyperband"
        else {"max_trials": trials}
    )
    oracle = ORACLES[kind](
        objective=sought,
        seed=seed + 1,  # it takes 0 for none
        # A failed trial says something of the space, not that the search is broken.
        max_consecutive_failed_trials=10**9,
        **limits,
    )
    oracle.hypermodel = hypermodel
    oracle.seconds = hypermodel.budget.time
    oracle.on_change = on_change
    oracle.verbose = 0
    return oracle


class SearchTuner(keras_tuner.Tuner):  # type: ignore[misc]  # untyped
    """Trains each trial in a run folder of its own by the package's training.

    Args:
        oracle: of `make_oracle`.
        hypermodel: ours.
        track: makes a trial's tracker; none if None.
        **arguments: of `keras_tuner.Tuner`.
    """

    def __init__(
        self,
        oracle: Any,
        hypermodel: ResidualHyperModel,
        *,
        track: Callable[[], Tracker] | None = None,
        **arguments: Any,
    ) -> None:
        with contextlib.redirect_stdout(None):  # KerasTuner tells that it reloads
            super().__init__(oracle=oracle, hypermodel=hypermodel, **arguments)
        self.track = track
        if not self._is_worker():
            # KerasTuner writes this when the first trial ends, and starts anew if a
            # kill comes before.
            self.save()

    def save(self) -> None:
        """Writes the state, whole or not at all."""
        if not self._is_worker():
            self.oracle.save()
        with runfolder.replacing(Path(self._get_tuner_fname())) as temporary:
            stateful.Stateful.save(self, str(temporary))

    def _get_tuner_fname(self) -> str:
        """A file by which KerasTuner knows a search again, with or without workers."""
        name = f"{self.tuner_id}.json" if self._is_worker() else "tuner0.json"
        return str(Path(self.project_dir) / name)

    def _try_run_and_update_trial(self, trial: Any, *args: Any, **kwargs: Any) -> None:
        """As KerasTuner's, but a reason is a line, and nothing is tried twice."""
        try:
            self._run_and_update_trial(trial, *args, **kwargs)
        except keras_tuner.errors.FatalError:
            raise
        except Exception as error:  # whatever a candidate does, the search goes on
            trial.status, trial.message = "FAILED", reason_of(error)
        else:
            trial.status = "COMPLETED"

    def run_trial(self, trial: Any) -> dict[str, float]:
        """Trains a candidate, from where its folder ends.

        Returns:
            metrics of its best epoch by validation loss, and what it costs.
        """
        hp = trial.hyperparameters
        recipe = self.hypermodel.candidate(hp)
        folder = self.run_folder(trial.trial_id)
        if "tuner/trial_id" in hp.values:
            continue_from(self.run_folder(hp.values["tuner/trial_id"]), folder)
        until = int(hp.values.get("tuner/epochs", recipe.epochs))
        runfolder.prepare(folder, recipe.to_json())
        size = quick_cost(recipe.model)
        cost = {"macs": float(size.macs), "params": float(size.params)}
        told = {f"hp.{name}": value for name, value in hp.values.items()} | cost
        with runfolder.locked(folder), self._tracked(trial, told, folder) as tracker:
            began = time.perf_counter()
            model = self._try_build(hp)
            if self.hypermodel.budget.latency:
                splits = self.hypermodel.splits(recipe)
                cost["latency"] = checked_latency(
                    model, splits, self.hypermodel.budget.latency
                )
            self.hypermodel.fit(hp, model, epochs=until, folder=folder, tracker=tracker)
            history = runfolder.read_lines(folder / runfolder.HISTORY)
            seconds = max(
                sum(row["seconds"] for row in history), time.perf_counter() - began
            )
            best = max(history, key=lambda row: -row["val_loss"])
            metrics = {k: v for k, v in best.items() if k not in ("epoch", "seconds")}
            metrics |= cost | {"best_epoch": best["epoch"], "seconds": seconds}
            relative = size.macs / quick_cost(self.hypermodel.recipe.model).macs
            metrics["score"] = best["val_accuracy"] - PARETO_WEIGHT * np.log10(relative)
            return {name: float(value) for name, value in metrics.items()}

    def run_folder(self, trial_id: str) -> Path:
        """Where a trial trains."""
        return Path(self.get_trial_dir(trial_id)) / "run"

    @contextlib.contextmanager
    def _tracked(self, trial: Any, told: dict[str, Any], folder: Path) -> Any:
        """A trial's own run beside the search's, closed as what it was."""
        if self.track is None:
            yield None
            return
        tracker = self.track()
        tracker.start(f"trial-{trial.trial_id}", told, folder)
        tracker.set_tags({"trial": str(trial.trial_id)})
        tracker.log_files([folder / runfolder.RECIPE])
        with closing(tracker):
            try:
                yield tracker
            except Exception as error:
                tracker.set_tags({"reason": reason_of(error)})
                raise
            tracker.log_files([folder / runfolder.HISTORY])


def reason_of(error: Exception) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines()
    kind = type(error).__name__
    if isinstance(error, keras_tuner.errors.FailedTrialError | ValueError) and lines:
        return lines[0]
    return f"{kind}: {lines[0]}" if lines else kind


def continue_from(parent: Path, folder: Path) -> None:
    """Carries a training to the next rung, with its optimizer and history.

    KerasTuner's own Hyperband carries the weights of the best epoch only.
    """
    if folder.exists():
        return
    with runfolder.replacing(folder) as temporary:
        skipped = shutil.ignore_patterns("tracking", runfolder.LOCK)
        shutil.copytree(parent, temporary, ignore=skipped)


def checked_latency(model: Any, splits: Splits, limit: float) -> float:
    """Seconds that a model takes for one image here.

    Raises:
        keras_tuner.errors.FailedTrialError: more than the limit.
    """
    image = np.zeros((1, *splits.image_shape), "uint8")
    model.predict_on_batch(image)
    times = []
    for _ in range(LATENCY_RUNS):
        began = time.perf_counter()
        model.predict_on_batch(image)
        times.append(time.perf_counter() - began)
    latency = float(np.median(times))
    if latency > limit:
        raise keras_tuner.errors.FailedTrialError(
            f"latency: {latency * 1e3:.3g} ms for an image are over "
            f"{limit * 1e3:.3g} ms"
        )
    return latency
