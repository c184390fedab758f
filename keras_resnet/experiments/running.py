"""Runs an experiment: each arm by each seed, by the one training path."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from keras_resnet import data as data_module
from keras_resnet import runfolder, training
from keras_resnet.data import Splits
from keras_resnet.experiments.design import (
    Arm,
    BudgetName,
    Experiment,
    ExperimentError,
)
from keras_resnet.experiments.probes import PROBES
from keras_resnet.experiments.results import FAILED, PROBED
from keras_resnet.experiments.settings import (
    Setting,
    parent_of,
    place_of,
    recipe_of,
    resolve,
    run_name,
)
from keras_resnet.surgery import deepen
from keras_resnet.tracking import MLflowTracker, closing
from keras_resnet.training.recipes import Recipe
from keras_resnet.training.runstate import TrainingError

SETTING = "setting.json"


class _Job(NamedTuple):
    """A run that an experiment needs."""

    arm: Arm
    seed: int
    folder: Path
    base: Path | None  # run that it is grown from


def run(
    experiment: Experiment | str,
    setting: Setting | BudgetName = "short",
    *,
    seeds: Iterable[int] = range(3),
    folder: Path = Path("runs/experiments"),
    tracker: MLflowTracker | None = None,
    console: Console | None = None,
    strategy: Any = None,
    **loading: Any,
) -> list[Path]:
    """Trains all arms of an experiment, seed by seed; what has ended isn't run again.

    Runs are kept by what they are: experiments that compare the same network share
    its runs. Cut off, the same call goes on within the run. Several processes may be
    started on one folder: each takes what no other is at.

    Args:
        experiment: the name of a row of `EXPERIMENTS`, or one's own experiment.
        setting: data and size, from `setting_of`, or the name of a budget.
        seeds: a run of each arm each.
        folder: of all settings.
        tracker: is told of the experiment, and of each run as its child.
        console: where progress is shown.
        strategy: a `tf.distribute` strategy to train under.
        **loading: other arguments of `data.load`, such as `data_dir`.

    Returns:
        Folders of runs that other processes are at; empty if all have ended.

    Raises:
        UserError: data and setting don't go together; another setting in the folder.
    """
    experiment, setting = resolve(experiment, setting)
    arms = experiment.arms_at(setting.budget)
    place = place_of(folder, setting)
    _claim(place, setting)
    jobs = [
        _job(experiment, arm, setting, seed, place) for seed in seeds for arm in arms
    ]
    own = place / "experiments" / experiment.name
    if tracker:
        own.mkdir(parents=True, exist_ok=True)
        tracker.start(
            experiment.name,
            setting._asdict() | {"arms": ", ".join(arm.name for arm in arms)},
            own,
        )
        tracker.set_tags({"experiment": experiment.name, "source": experiment.source})
    with closing(tracker) if tracker else nullcontext():
        left = _run_all(experiment, setting, jobs, tracker, console, strategy, loading)
    return [job.folder for job in left]


def _job(
    experiment: Experiment, arm: Arm, setting: Setting, seed: int, place: Path
) -> _Job:
    base = parent_of(experiment, arm)
    return _Job(
        arm,
        seed,
        place / run_name(experiment, arm, setting, seed),
        base and place / run_name(experiment, base, setting, seed),
    )


def _claim(place: Path, setting: Setting) -> None:
    """Keeps a folder for one setting."""
    file, wanted = place / SETTING, setting._asdict()
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExperimentError(
            f"folder: can't write to {place}: {error.strerror}"
        ) from None
    if not file.exists():
        runfolder.write_json(file, wanted)
    elif runfolder.read_json(file) != wanted:
        raise ExperimentError(
            f"folder: {place} holds runs of another setting; name another --folder"
        )


def _run_all(
    experiment: Experiment,
    setting: Setting,
    jobs: Sequence[_Job],
    tracker: MLflowTracker | None,
    console: Console | None,
    strategy: Any,
    loading: dict[str, Any],
) -> list[_Job]:
    """Runs what can be run; returns what other processes are at."""
    splits = _Data(experiment, setting, loading)
    left = [job for job in jobs if not _is_done(job, experiment)]
    total, done = len(left), 0
    progress = True
    while left and progress:
        waiting, progress = [], False
        for job in left:
            if job.base and not (job.base / runfolder.RESULT).exists():
                if (job.base / FAILED).exists():
                    _fail(job, f"{job.arm.grown_from} failed, which it grows from")
                else:
                    waiting.append(job)
                continue
            done += 1
            if console:
                console.print(f"{done}/{total}  {job.arm.label}, seed {job.seed}")
            try:
                _run_one(experiment, setting, job, splits, tracker, console, strategy)
            except runfolder.BusyError:
                done -= 1
                waiting.append(job)
            else:
                progress = True
        left = waiting
    return left


def _is_done(job: _Job, experiment: Experiment) -> bool:
    """Whether there is nothing left to do."""
    if (job.folder / FAILED).exists():
        return True
    return (job.folder / runfolder.RESULT).exists() and all(
        (job.folder / PROBED.format(probe)).exists() for probe in experiment.probes
    )


def _run_one(
    experiment: Experiment,
    setting: Setting,
    job: _Job,
    splits: _Data,
    tracker: MLflowTracker | None,
    console: Console | None,
    strategy: Any,
) -> None:
    """Trains an arm by a seed, unless that has been done, and probes it."""
    loaded, recipe = splits.of(job)
    if not (job.folder / runfolder.RESULT).exists():
        track = (
            MLflowTracker(tracker.experiment, console, parent=tracker)
            if tracker
            else None
        )
        try:
            training.train(
                recipe,
                data=loaded,
                model=_grown(job, recipe) if job.base else None,
                folder=job.folder,
                seed=job.seed,
                tracker=track,
                console=console,
                strategy=strategy,
                export=False,
            )
        except TrainingError as error:
            _fail(job, str(error))
            return
    spec = recipe.model.replace(input_shape=loaded.image_shape, classes=loaded.classes)
    for name in experiment.probes:
        file = job.folder / PROBED.format(name)
        if not file.exists():
            probed = PROBES[name](job.folder, spec, loaded, job.seed)
            runfolder.write_json(file, probed._asdict())


def _grown(job: _Job, recipe: Recipe) -> Any:
    """The trained network that an arm grows from, deepened."""
    assert job.base is not None  # noqa: S101
    old, _ = runfolder.load_best(job.base)
    base = Recipe.from_json((job.base / runfolder.RECIPE).read_text()).model
    return deepen(old, recipe.model.depths, spec=base)


def _fail(job: _Job, reason: str) -> None:
    """A run that came to nothing: it would again, so it isn't repeated."""
    job.folder.mkdir(parents=True, exist_ok=True)
    runfolder.write_json(job.folder / FAILED, {"reason": reason})


class _Data:
    """Splits of one seed at a time: they are the same for all arms."""

    def __init__(
        self, experiment: Experiment, setting: Setting, loading: dict[str, Any]
    ) -> None:
        self.experiment = experiment
        self.setting = setting
        self.loading = loading
        self.key: Any = None
        self.splits: Splits | None = None

    def of(self, job: _Job) -> tuple[Splits, Recipe]:
        """Data and recipe of a job."""
        recipe = recipe_of(self.experiment, job.arm, self.setting)
        key = (job.seed, recipe.batch_size, recipe.augment, recipe.image_size)
        if self.key != key or self.splits is None:
            self.splits = data_module.load(
                self.setting.data,
                batch_size=recipe.batch_size,
                augment=recipe.augment,
                seed=job.seed,
                image_size=recipe.image_size,
                test_size=recipe.test_size,
                train_images=self.setting.train_images,
                **self.loading,
            )
            self.key = key
        recipe = recipe_of(self.experiment, job.arm, self.setting, self.splits.steps)
        return self.splits, recipe
