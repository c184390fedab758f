"""Runs an experiment: each arm by each seed, by the one training path."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from keras_resnet import data as data_module
from keras_resnet import files, training
from keras_resnet.data import Splits
from keras_resnet.experiments.claims import Arm, BudgetName, Experiment, ExperimentError
from keras_resnet.experiments.probes import PROBES
from keras_resnet.experiments.results import FAILED, PROBED
from keras_resnet.experiments.scale import (
    Setting,
    own_folder,
    parent_of,
    recipe_of,
    resolve,
    run_name,
)
from keras_resnet.recipe import Recipe
from keras_resnet.run import DATA, BusyError, Run
from keras_resnet.surgery import deepen
from keras_resnet.tracking import MLflowTracker, closing
from keras_resnet.training.resume import TrainingError

SETTING = "setting.json"


class _Job(NamedTuple):
    """A run that an experiment needs."""

    arm: Arm
    seed: int
    folder: Path
    base: Path | None  # run that it is grown from


class _Session(NamedTuple):
    """What all runs of an experiment share."""

    experiment: Experiment
    setting: Setting
    load: Callable[..., Splits]
    new_tracker: Callable[[], MLflowTracker] | None
    console: Console | None
    strategy: Any


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
    its runs. After an interruption the same call resumes the run that was cut off.
    Several processes may be started on one folder: each trains what no other does.

    Args:
        experiment: the name of a row of `EXPERIMENTS`, or one's own experiment.
        setting: data and size, from `setting_of`, or the name of a budget.
        seeds: a run of each arm each.
        folder: of all settings.
        tracker: logs the experiment, and each run as its child.
        console: where progress is shown.
        strategy: a `tf.distribute` strategy to train under.
        **loading: other arguments of `data.load`, such as `data_dir`.

    Returns:
        Folders of runs that other processes train; empty if all have ended.

    Raises:
        UserError: data and setting don't go together; another setting, or runs on
            other data, in the folder.
    """
    experiment, setting = resolve(experiment, setting)
    place = folder / setting.name
    _claim(place, setting)
    jobs = [
        _job(experiment, arm, setting, seed, place)
        for seed in seeds
        for arm in experiment.arms_at(setting.budget)
    ]
    new_tracker = _track(tracker, experiment, setting, folder) if tracker else None

    @functools.lru_cache(maxsize=1)  # of one seed at a time, the same for most arms
    def load(**arguments: Any) -> Splits:
        size = setting.train_images
        return data_module.load(setting.data, train_images=size, **arguments, **loading)

    session = _Session(experiment, setting, load, new_tracker, console, strategy)
    with closing(tracker):
        left = [job for job in jobs if not _is_done(job, experiment)]
        if left:
            _check_data(place, loading)
        return [job.folder for job in _run_all(session, left)]


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
        files.write_json(file, wanted)
    elif files.read_json(file) != wanted:
        raise ExperimentError(
            f"folder: {place} holds runs of another setting; name another --folder"
        )


def _track(
    tracker: MLflowTracker, experiment: Experiment, setting: Setting, folder: Path
) -> Callable[[], MLflowTracker]:
    """Logs the experiment itself; returns what makes the trackers of its runs."""
    own = own_folder(folder, setting, experiment)
    own.mkdir(parents=True, exist_ok=True)
    arms = ", ".join(arm.name for arm in experiment.arms_at(setting.budget))
    tracker.start(experiment.name, setting._asdict() | {"arms": arms}, own)
    tracker.set_tags({"experiment": experiment.name, "source": experiment.source})
    return functools.partial(tracker.child, own)


def _run_all(session: _Session, jobs: Sequence[_Job]) -> Sequence[_Job]:
    """Runs what can be run; returns what other processes train."""
    total, done = len(jobs), 0
    before: Sequence[_Job] | None = None
    while jobs and jobs != before:  # until the others' runs are all that is left
        before, waiting = jobs, []
        for job in jobs:
            if job.base and not _has_ended(job.base):
                waiting.append(job)
                continue
            if session.console:
                session.console.print(
                    f"{done + 1}/{total}  {job.arm.label}, seed {job.seed}"
                )
            try:
                _run_one(session, job)
            except BusyError:
                waiting.append(job)
            else:
                done += 1
        jobs = waiting
    return jobs


def _run_one(session: _Session, job: _Job) -> None:
    """Trains an arm by a seed, unless that has been done, and probes it."""
    if job.base and (job.base / FAILED).exists():
        _fail(job, f"{job.arm.grown_from} failed, which it grows from")
        return
    recipe = recipe_of(session.experiment, job.arm, session.setting)
    splits = session.load(
        seed=job.seed,
        batch_size=recipe.batch_size,
        augment=recipe.augment,
        sampling=recipe.sampling,
        image_size=recipe.image_size,
        test_size=recipe.test_size,
    )
    recipe = recipe_of(session.experiment, job.arm, session.setting, splits.steps)
    try:
        if not Run(job.folder).is_finished:
            _train(session, job, recipe, splits)
    except TrainingError as error:
        _fail(job, str(error))
        return
    spec = recipe.model.replace(input_shape=splits.image_shape, classes=splits.classes)
    for name in session.experiment.probes:
        file = job.folder / PROBED.format(name)
        if not file.exists():
            probed = PROBES[name](job.folder, spec, splits, job.seed)
            files.write_json(file, probed._asdict())


def _train(session: _Session, job: _Job, recipe: Recipe, splits: Splits) -> None:
    training.train(
        recipe,
        data=splits,
        model=_grown(job.base, recipe) if job.base else None,
        folder=job.folder,
        seed=job.seed,
        tracker=session.new_tracker() if session.new_tracker else None,
        console=session.console,
        strategy=session.strategy,
        export=False,
    )


def _check_data(place: Path, loading: dict[str, Any]) -> None:
    """Refuses to add to runs that were trained on other images of the same name."""
    for path in sorted(place.glob(f"*/{DATA}"))[:1]:
        Run(path.parent).load_splits(**loading)


def _has_ended(run: Path) -> bool:
    return (run / FAILED).exists() or Run(run).is_finished


def _is_done(job: _Job, experiment: Experiment) -> bool:
    """Whether there is nothing left to do."""
    if (job.folder / FAILED).exists():
        return True
    return _has_ended(job.folder) and all(
        (job.folder / PROBED.format(probe)).exists() for probe in experiment.probes
    )


def _grown(base: Path, recipe: Recipe) -> Any:
    """The trained network of a run, deepened to that of a recipe."""
    old = Run(base)
    return deepen(old.load_model(), recipe.model.depths, spec=old.recipe.model)


def _fail(job: _Job, reason: str) -> None:
    """Keeps that a run failed, so that it isn't repeated: it would fail again."""
    job.folder.mkdir(parents=True, exist_ok=True)
    files.write_json(job.folder / FAILED, {"reason": reason})
