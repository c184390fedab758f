"""A KerasTuner tuner that trains in run folders.

A trial that fails does not end the search, and an interrupted one resumes from its
folder.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.src.engine import stateful  # the base whose `save` is wrapped

from keras_resnet import files
from keras_resnet.errors import UserError, one_line
from keras_resnet.recipe import Recipe
from keras_resnet.run import BEST, CHECKPOINT, HISTORY, LOCK, RECIPE, Run
from keras_resnet.tasks import best_epoch
from keras_resnet.tracking import Tracker, closing
from tuning.budget import costs_of
from tuning.hypermodel import ResidualHyperModel
from tuning.latency import Export, known_latency, measure_latency
from tuning.noise import write_correct
from tuning.objective import Objective, SearchError
from tuning.trials import DEFAULT

DEATHS = 3  # of the process at one checkpoint of a trial, after which it fails
IDLE_PAUSE = 2.0  # seconds until a worker without a trial asks again


class SearchTuner(keras_tuner.Tuner):  # type: ignore[misc]  # untyped
    """Trains each trial by `training.fit` in a run folder of its own.

    Args:
        oracle: of `make_oracle`.
        hypermodel: ours.
        objective: by which trials are compared.
        export: what latency is measured of.
        track: makes a trial's tracker; None for none.
        **arguments: of `keras_tuner.Tuner`.
    """

    def __init__(
        self,
        oracle: Any,
        hypermodel: ResidualHyperModel,
        objective: Objective = Objective(),  # noqa: B008  # it is frozen
        *,
        export: Export = Export(),  # noqa: B008
        track: Callable[[], Tracker] | None = None,
        **arguments: Any,
    ) -> None:
        place = Path(arguments.get("directory") or ".")
        place /= arguments.get("project_name") or "untitled_project"
        resumes = (place / "oracle.json").exists()
        # KerasTuner prints that it reloads, and raises what it likes at damaged files.
        with (
            contextlib.redirect_stdout(None),
            _reading(place) if resumes else contextlib.nullcontext(),
        ):
            super().__init__(oracle=oracle, hypermodel=hypermodel, **arguments)
        self.objective = objective
        self.export = export
        self.search_folder = Path(self.directory)
        self.track = track
        self._idle = False
        if not self._is_worker():
            # KerasTuner writes this when the first trial ends, and does not reload if a
            # kill comes before.
            self.save()

    def save(self) -> None:
        """Writes the state, whole or not at all."""
        if not self._is_worker():
            self.oracle.save()
        with files.replacing(Path(self._get_tuner_fname())) as temporary:
            stateful.Stateful.save(self, str(temporary))

    def _get_tuner_fname(self) -> str:
        """The file by which KerasTuner finds a search, with or without workers."""
        name = f"{self.tuner_id}.json" if self._is_worker() else "tuner0.json"
        return str(Path(self.project_dir) / name)

    def pre_create_trial(self) -> None:
        """Pauses if there was no trial the last time; KerasTuner doesn't."""
        if self._idle:
            time.sleep(IDLE_PAUSE)
        self._idle = True

    def on_trial_begin(self, trial: Any) -> None:
        """There is a trial."""
        self._idle = False
        super().on_trial_begin(trial)

    def _try_run_and_update_trial(self, trial: Any, *args: Any, **kwargs: Any) -> None:
        """As KerasTuner's, but with reasons of one line, and without retries."""
        try:
            self._run_and_update_trial(trial, *args, **kwargs)
        except keras_tuner.errors.FatalError:
            raise
        except Exception as error:  # whatever happens in a trial, the search goes on
            trial.status, trial.message = "FAILED", reason_of(error)
        else:
            trial.status = "COMPLETED"

    def run_trial(self, trial: Any) -> dict[str, float]:
        """Trains a candidate, or resumes it from its folder.

        Returns:
            metrics of its best epoch by validation loss, and what it costs.
        """
        hp = trial.hyperparameters
        recipe = self.hypermodel.candidate(hp)
        folder = self.run_folder(trial.trial_id)
        if "tuner/trial_id" in hp.values:
            continue_from(self.run_folder(hp.values["tuner/trial_id"]), folder)
        until = int(hp.values.get("tuner/epochs", recipe.epochs))
        run = Run(folder)
        run.open(recipe)
        cost = costs_of(recipe)
        params = {f"hp.{name}": value for name, value in hp.values.items()} | cost
        with (
            run.lock(),
            self._tracked(trial, params, folder) as tracker,
            counting_deaths(folder),
        ):
            began = time.perf_counter()
            model = self._try_build(hp)
            limit = self._latency_limit(hp)
            if limit or self.objective.cost == "latency":
                seconds = measure_latency(
                    model, recipe.model, self.export, self.search_folder
                )
                check_latency(seconds, limit)
                cost["latency"] = seconds
            self.hypermodel.fit(hp, model, epochs=until, folder=folder, tracker=tracker)
            history = run.history
            carried = int(hp.values.get("tuner/initial_epoch", 0))
            seconds = max(seconds_after(carried, history), time.perf_counter() - began)
            best = best_epoch("classes", history)
            metrics = {k: v for k, v in best.items() if k not in ("epoch", "seconds")}
            metrics |= cost | {"best_epoch": best["epoch"], "seconds": seconds}
            metrics["score"] = self.objective.score(metrics, None)
            if DEFAULT in hp.values:
                write_correct(folder, self._correct(run, recipe))
            return {name: float(value) for name, value in metrics.items()}

    def _latency_limit(self, hp: Any) -> float | None:
        """The budget's, or the default's where no other network can win."""
        limits = [self.hypermodel.budget.latency]
        sought, default = self.objective, self.hypermodel.recipe.model
        cheapest = sought.kind == "cheapest" and sought.against == "default"
        if cheapest and sought.cost == "latency" and DEFAULT not in hp.values:
            limits.append(known_latency(default, self.export, self.search_folder))
        return min((limit for limit in limits if limit), default=None)

    def _correct(self, run: Run, recipe: Recipe) -> np.ndarray:
        """Which validation images the model of a run gets right."""
        model = files.load_keras(run.folder / BEST)
        batches = self.hypermodel.splits(recipe).val.as_numpy_iterator()
        return np.concatenate(
            [
                # Not `predict`, of whose graphs for many models TensorFlow warns.
                np.argmax(model(images, training=False), -1) == labels
                for images, labels in batches
            ]
        )

    def run_folder(self, trial_id: str) -> Path:
        """Where a trial trains."""
        return Path(self.get_trial_dir(trial_id)) / "run"

    @contextlib.contextmanager
    def _tracked(self, trial: Any, params: dict[str, Any], folder: Path) -> Any:
        """A trial's own run in MLflow, below the search's."""
        if self.track is None:
            yield None
            return
        tracker = self.track()
        tracker.start(f"trial-{trial.trial_id}", params, folder)
        tracker.set_tags({"trial": str(trial.trial_id)})
        tracker.log_files([folder / RECIPE])
        with closing(tracker):
            try:
                yield tracker
            except Exception as error:
                tracker.set_tags({"reason": reason_of(error)})
                raise
            tracker.log_files([folder / HISTORY])


def reason_of(error: Exception) -> str:
    """An error in one line."""
    bare = isinstance(error, keras_tuner.errors.FailedTrialError | ValueError)
    if bare or not str(error).strip():
        return one_line(error)
    return f"{type(error).__name__}: {one_line(error)}"


@contextlib.contextmanager
def counting_deaths(folder: Path) -> Iterator[None]:
    """Fails a trial that kills its process each time, as for want of memory.

    A file counts the deaths since the last checkpoint.

    Raises:
        keras_tuner.errors.FailedTrialError: `DEATHS` have.
    """
    path = folder / "deaths.json"
    at = sorted(entry.name for entry in (folder / CHECKPOINT).glob("*"))
    before = files.read_json(path) if path.exists() else {}
    deaths = before["deaths"] if before.get("at") == at else 0
    if deaths >= DEATHS:
        raise keras_tuner.errors.FailedTrialError(
            f"its process died {deaths} times at the same checkpoint; out of memory?"
        )
    files.write_json(path, {"at": at, "deaths": deaths + 1})
    try:
        yield
    finally:  # the process lives
        path.unlink(missing_ok=True)


def continue_from(parent: Path, folder: Path) -> None:
    """Copies a training to the next rung, with optimizer and history.

    KerasTuner's own Hyperband copies only the weights of the best epoch.
    """
    if folder.exists():
        return
    with files.replacing(folder) as temporary:
        skipped = shutil.ignore_patterns("tracking", LOCK)
        shutil.copytree(parent, temporary, ignore=skipped)


def seconds_after(epochs: int, history: Sequence[Mapping[str, float]]) -> float:
    """Seconds of the epochs after some that an earlier rung counted."""
    return sum(epoch["seconds"] for epoch in history if epoch["epoch"] > epochs)


def check_latency(seconds: float, limit: float | None) -> None:
    """Fails a trial whose network is too slow.

    Raises:
        keras_tuner.errors.FailedTrialError: it takes more than the limit.
    """
    if limit and seconds > limit:
        raise keras_tuner.errors.FailedTrialError(
            f"latency: {seconds * 1e3:.3g} ms for an image are over "
            f"{limit * 1e3:.3g} ms"
        )


@contextlib.contextmanager
def _reading(place: Path) -> Iterator[None]:
    """What a search's damaged state makes KerasTuner raise, in one line."""
    try:
        with files.reading():
            yield
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise SearchError(
            f"search: can't read its state in {place}: {error}; name a new folder"
        ) from None
