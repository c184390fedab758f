"""KerasTuner's oracles, which know of costs, of lost workers and of whole files.

The state of a search is KerasTuner's own. What is added: candidates that cost too much
are never trials, files are written whole, what a kill left half done is run again, and
so is the trial of a worker that is no longer heard of.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cmp_to_key
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras_tuner
from keras_tuner.src.engine import stateful  # the base whose `save` is wrapped

from keras_resnet import files
from tuning.hypermodel import ResidualHyperModel
from tuning.trials import KEY, is_refused

REFUSALS = 10_000  # in a row, after which there is nothing left to find


class _Oracle:
    """What all oracles here have, before KerasTuner's own."""

    hypermodel: ResidualHyperModel
    seconds: float | None = None  # of training, that the search may take
    on_change: Callable[[], None] = staticmethod(lambda: None)  # a trial began or ended
    trials: dict[str, Any]
    ongoing_trials: dict[str, Any]
    tuner_ids: set[str]
    heard: dict[str, float]  # worker -> time of its last sign
    began: dict[str, float]  # trial -> when it was given to a worker
    max_trials: int | None

    @keras_tuner.synchronized  # type: ignore[untyped-decorator]
    def create_trial(self, tuner_id: str) -> Any:
        """The next trial; stopped once the time is spent.

        A worker for whom there is none stays while others train: theirs may come back.
        """
        self.heard[tuner_id] = time.monotonic()
        before = self.max_trials
        if self.seconds and spent(self.trials.values()) >= self.seconds:
            self.max_trials = len(self.trials)
        try:
            trial = super().create_trial(tuner_id)  # type: ignore[misc]
        finally:
            self.max_trials = before
        self.began[trial.trial_id] = time.monotonic()
        if trial.status == "STOPPED" and self.ongoing_trials:
            trial.status = "IDLE"
            self.tuner_ids.add(tuner_id)
        self.on_change()
        return trial

    @keras_tuner.synchronized  # type: ignore[untyped-decorator]
    def take_back(self, living: set[str], lease: float) -> list[str]:
        """Leaves the trials of lost workers to others.

        Args:
            living: workers that gave a sign since the last call.
            lease: seconds without one, after which a worker is lost.

        Returns:
            names of the lost.
        """
        now = time.monotonic()
        self.heard |= dict.fromkeys(living, now)
        lost = [n for n in sorted(self.tuner_ids) if now - self.heard[n] > lease]
        for name in lost:
            self.tuner_ids.discard(name)
            if trial := self.ongoing_trials.pop(name, None):
                self._retry_queue.append(trial.trial_id)  # type: ignore[attr-defined]
        return lost

    @keras_tuner.synchronized  # type: ignore[untyped-decorator]
    def end_trial(self, trial: Any) -> None:
        """Notes what came of a trial, and of one that failed how long it took."""
        if trial.status == "FAILED" and trial.trial_id in self.began:
            took = time.monotonic() - self.began[trial.trial_id]
            metrics = self.trials[trial.trial_id].metrics
            metrics.register("seconds", "min")
            metrics.update("seconds", took)
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
        with files.replacing(path) as temporary:
            stateful.Stateful.save(self, str(temporary))

    def _save_trial(self, trial: Any) -> None:
        folder = Path(self._get_trial_dir(trial.trial_id))  # type: ignore[attr-defined]
        with files.replacing(folder / "trial.json") as temporary:
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
        trials = self.trials.values()
        refused = [t for t in trials if is_refused(t.status, t.message or "")]
        self._count_refused(len(refused))


ORACLES: dict[str, Any] = {
    "random": RandomOracle,
    "bayesian": BayesianOracle,
    "hyperband": HyperbandOracle,
    "grid": GridOracle,
}


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
    sought = keras_tuner.Objective(KEY[objective], "max")
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
    oracle.heard = {}
    oracle.began = {}
    oracle.verbose = 0
    return oracle
