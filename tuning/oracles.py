"""KerasTuner's oracles, with budgets and for processes that are killed.

The state of a search is KerasTuner's own. What is added: candidates over the budget are
never trials, files are written whole, and trials that a kill interrupted or whose
worker is dead are run again.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cmp_to_key
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras_tuner
from keras_tuner.src.engine import stateful  # the base whose `save` is wrapped
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from keras_resnet import files
from tuning.hypermodel import ResidualHyperModel
from tuning.objective import Objective
from tuning.trials import DEFAULT, Trial, is_refused, reference

REFUSALS = 10_000  # in a row, after which there is nothing left to find


class _Oracle:
    """What all oracles here have, before KerasTuner's own."""

    hypermodel: ResidualHyperModel
    sought: Objective
    baseline: int = 0  # trials of the default, before all others
    seconds: float | None = None  # of training, that the search may take
    on_change: Callable[[Trial], None] = staticmethod(lambda _: None)  # began, ended
    ended: dict[str, Trial]  # what score_trial has seen
    trials: dict[str, Any]
    start_order: list[str]
    ongoing_trials: dict[str, Any]
    tuner_ids: set[str]
    last_seen: dict[str, float]  # worker -> time of its last heartbeat
    started: dict[str, float]  # trial -> when its worker got it
    took: dict[str, float]  # trial -> seconds of workers that had it before
    max_trials: int | None

    @keras_tuner.synchronized  # type: ignore[untyped-decorator]
    def create_trial(self, tuner_id: str) -> Any:
        """The next trial; none once the time is spent.

        A worker that gets none stays while others train: it may get theirs.
        """
        if trial := self.ongoing_trials.get(tuner_id):  # the worker was restarted
            self._stop_clock(trial.trial_id, self.last_seen.get(tuner_id))
        self.last_seen[tuner_id] = time.monotonic()
        before = self.max_trials
        if self.seconds and seconds_spent(self.trials.values()) >= self.seconds:
            self.max_trials = len(self.trials)
        try:
            trial = super().create_trial(tuner_id)  # type: ignore[misc]
        finally:
            self.max_trials = before
        self.started[trial.trial_id] = time.monotonic()
        if trial.status == "STOPPED" and self.ongoing_trials:
            trial.status = "IDLE"
            self.tuner_ids.add(tuner_id)
        if trial.status == "RUNNING":
            self.on_change(self._plain(trial))
        return trial

    @keras_tuner.synchronized  # type: ignore[untyped-decorator]
    def reassign(self, alive: set[str], lease: float) -> list[str]:
        """Leaves the trials of dead workers to others.

        Args:
            alive: workers with a heartbeat since the last call.
            lease: seconds without one, after which a worker is dead.

        Returns:
            names of the dead.
        """
        now = time.monotonic()
        self.last_seen |= dict.fromkeys(alive, now)
        dead = [n for n in sorted(self.tuner_ids) if now - self.last_seen[n] > lease]
        for name in dead:
            self.tuner_ids.discard(name)
            if trial := self.ongoing_trials.pop(name, None):
                self._stop_clock(trial.trial_id, self.last_seen[name])
                self._retry_queue.append(trial.trial_id)  # type: ignore[attr-defined]
        return dead

    @keras_tuner.synchronized  # type: ignore[untyped-decorator]
    def end_trial(self, trial: Any) -> None:
        """Ends a trial; of one that failed, with the seconds that all workers took."""
        self._stop_clock(trial.trial_id, time.monotonic())
        if trial.status == "FAILED" and trial.trial_id in self.took:
            metrics = self.trials[trial.trial_id].metrics
            metrics.register("seconds", "min")
            metrics.update("seconds", self.took[trial.trial_id])
        super().end_trial(trial)  # type: ignore[misc]
        self.on_change(self._plain(self.trials[trial.trial_id]))

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """The default with the next of its seeds; then what is searched."""
        trained = sum(is_default(trial) for trial in self.trials.values())
        if trained < self.baseline:
            return {"status": "RUNNING", "values": {DEFAULT: trained}}
        with self._without_defaults():
            return self._populate(trial_id)

    def _populate(self, trial_id: str) -> dict[str, Any]:
        found: dict[str, Any] = super().populate_space(trial_id)  # type: ignore[misc]
        return found

    @contextlib.contextmanager
    def _without_defaults(self) -> Iterator[None]:
        """Hides trials of the default, which are not in the space."""
        trials, order = self.trials, self.start_order
        self.trials = {i: t for i, t in trials.items() if not is_default(t)}
        self.start_order = [i for i in order if i in self.trials]
        try:
            yield
        finally:
            self.trials, self.start_order = trials, order

    def score_trial(self, trial: Any) -> None:
        """Scores a trial, and others anew where what they must reach may change."""
        self.ended[trial.trial_id] = self._plain(trial)._replace(status="COMPLETED")
        changed = {trial.trial_id: trial}
        least = None
        if self.sought.kind == "cheapest":
            for i in self.trials.keys() - self.ended.keys():  # before a restart
                if self.trials[i].status == "COMPLETED":
                    self.ended[i] = self._plain(self.trials[i])
            least = reference([*self.ended.values()], self.sought)
            changed |= {i: self.trials[i] for i in self.ended if i in self.trials}
            changed[trial.trial_id] = trial
        for i, each in changed.items():
            each.score = self.sought.score(self.ended[i].metrics, least)
            each.best_step = each.metrics.get_best_step(self.sought.metric)

    def _plain(self, trial: Any) -> Trial:
        """A trial of KerasTuner's as ours."""
        folder = Path(self._get_trial_dir(trial.trial_id))  # type: ignore[attr-defined]
        return from_kerastuner(trial)._replace(run=folder / "run")

    def _stop_clock(self, trial_id: str, at: float | None) -> None:
        """Adds the time since a worker got a trial, if one has it."""
        if (started := self.started.pop(trial_id, None)) and at:
            self.took[trial_id] = self.took.get(trial_id, 0.0) + max(at - started, 0)

    def _random_values(self) -> dict[str, Any] | None:
        """A random candidate within the budget that was not tried."""
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
        """Reads the state; trials that a kill interrupted run again."""
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

    def _populate(self, trial_id: str) -> dict[str, Any]:
        """The next of a bracket, or of those that are left at the end.

        KerasTuner's brackets wait for trials that will never be, where a space has
        fewer networks than a bracket, or trials failed.
        """
        found = super()._populate(trial_id)
        if found["status"] != "STOPPED" or self.ongoing_trials:
            return found
        for bracket in self._brackets:
            rounds, number = bracket["rounds"], bracket["bracket_num"]
            for i, (before, after) in enumerate(itertools.pairwise(rounds)):
                trials = [self.trials[each["id"]] for each in before]
                done = [trial for trial in trials if trial.status == "COMPLETED"]
                chosen = {each["past_id"] for each in after}
                left = [trial for trial in done if trial.trial_id not in chosen]
                if left and len(after) < math.ceil(len(done) / self.factor):
                    best = max(left, key=lambda trial: trial.score)
                    after.append({"past_id": best.trial_id, "id": trial_id})
                    values = best.hyperparameters.values | {
                        "tuner/trial_id": best.trial_id,
                        "tuner/initial_epoch": self._get_epochs(number, i),
                        "tuner/epochs": self._get_epochs(number, i + 1),
                        "tuner/bracket": number,
                        "tuner/round": i + 1,
                    }
                    return {"status": "RUNNING", "values": values}
        return found


class BayesianOracle(_Oracle, keras_tuner.oracles.BayesianOptimizationOracle):  # type: ignore[misc]
    """Bayesian optimization with Gaussian processes."""

    def _populate(self, trial_id: str) -> dict[str, Any]:
        """The process' optimum; a random candidate where that is over the budget."""
        # Its matrices are small: threads only wait for each other.
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = super()._populate(trial_id)
        values = found.get("values")
        if values and not self._affordable(values):
            values = self._random_values()
            if values is None:
                return {"status": "STOPPED", "values": None}
            found = {"status": "RUNNING", "values": values}
        return found


class GridOracle(_Oracle, keras_tuner.oracles.GridSearchOracle):  # type: ignore[misc]
    """Every combination; those over the budget are recorded and not trained."""

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

    @keras_tuner.synchronized  # type: ignore[untyped-decorator]
    def end_trial(self, trial: Any) -> None:
        """Ends a trial; after one of the default nothing follows in the grid."""
        super().end_trial(trial)
        if is_default(self.trials[trial.trial_id]):
            self._populate_next.remove(trial.trial_id)

    def _count_refused(self, more: int) -> None:
        if self.max_trials:
            self.max_trials += more

    def reload(self) -> None:
        """Reads the state, and finds its place in the grid again."""
        super().reload()
        values = {
            name: trial.hyperparameters.values
            for name, trial in self.trials.items()
            if not is_default(trial)
        }

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


def is_default(trial: Any) -> bool:
    """Whether a trial of KerasTuner's is one of the default."""
    return DEFAULT in trial.hyperparameters.values


def from_kerastuner(trial: Any) -> Trial:
    """A trial of KerasTuner's as ours, without its folder."""
    metrics = {n: trial.metrics.get_best_value(n) for n in trial.metrics.metrics}
    values, reason = trial.hyperparameters.values, trial.message or ""
    return Trial(trial.trial_id, trial.status, reason, values, metrics, Path())


def seconds_spent(trials: Any) -> float:
    """Seconds that trials took."""
    known = [t.metrics for t in trials if t.metrics.exists("seconds")]
    return float(sum(metrics.get_best_value("seconds") for metrics in known))


def make_oracle(
    kind: str,
    hypermodel: ResidualHyperModel,
    *,
    objective: Objective,
    trials: int,
    baseline: int = 0,
    on_change: Callable[[Trial], None] = lambda _: None,
) -> Any:
    """An oracle of one of `ORACLES` over the whole declared space."""
    limits: dict[str, Any] = (
        {"max_epochs": hypermodel.recipe.epochs}
        if kind == "hyperband"
        else {"max_trials": trials}
    )
    oracle = ORACLES[kind](
        objective=keras_tuner.Objective(objective.metric, "max"),
        seed=hypermodel.seed + 1,  # it takes 0 for none
        # A failed trial says something of the space, not that the search is broken.
        max_consecutive_failed_trials=10**9,
        **limits,
    )
    oracle.hypermodel = hypermodel
    oracle.sought = objective
    oracle.baseline = baseline
    oracle.seconds = hypermodel.budget.time
    oracle.on_change = on_change
    oracle.last_seen = {}
    oracle.started = {}
    oracle.took = {}
    oracle.ended = {}
    oracle.verbose = 0
    return oracle
