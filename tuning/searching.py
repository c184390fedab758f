"""`search`: a space, a recipe and a budget -> the best network found."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from keras_resnet import files
from keras_resnet.errors import BudgetError
from keras_resnet.recipe import Recipe
from keras_resnet.run import Run, new_folder
from keras_resnet.serving import runtimes
from keras_resnet.units import count
from tuning import processes
from tuning.budget import Budget, Mode, costs_of
from tuning.feasibility import Candidates, check_budget
from tuning.latency import Export
from tuning.objective import Against, CostName, Kind, Objective, SearchError
from tuning.search_progress import Progress
from tuning.search_report import write_report
from tuning.search_tracking import log_best, tracked
from tuning.selection import read_result
from tuning.space import Space
from tuning.trials import (
    BEST,
    PROJECT,
    SEARCH,
    SearchResult,
    open_search,
    read_settings,
)

if TYPE_CHECKING:
    from rich.console import Console

    from keras_resnet.tracking import MLflowTracker
    from tuning.hypermodel import ResidualHyperModel

TunerName = Literal["random", "bayesian", "hyperband", "grid"]
BASELINE = 3  # seeds of the default, if the trials are enough
SHARE = 6  # of the trials that the default may take: one of so many


class _Search(NamedTuple):
    """A search that is about to begin."""

    hypermodel: ResidualHyperModel
    folder: Path
    objective: Objective
    export: Export
    tuner: TunerName
    trials: int
    baseline: int
    strategy: Any
    tracker: MLflowTracker | None
    final: bool
    console: Console | None


def search(
    space: Space | str,
    recipe: Recipe | str = "digits",
    *,
    data: Any = "digits",
    budget: Budget | str | None = None,
    mode: Mode = "refuse",
    objective: Kind = "accuracy",
    within: float | None = None,
    cost: CostName = "macs",
    against: Against = "default",
    format: str = "saved_model",
    quantize: str | None = None,
    baseline: int | None = None,
    tuner: TunerName = "random",
    trials: int = 20,
    folder: Path | str | None = None,
    seed: int = 0,
    strategy: Any = None,
    tracker: MLflowTracker | None = None,
    final: bool = False,
    console: Console | None = None,
    **loading: Any,
) -> SearchResult:
    """Searches for the network that does best on the validation images.

    The same call with the same folder resumes: finished trials are not run again, and
    an interrupted one resumes after its last epoch. Test images are not used.
    `report/` in the folder shows what was found.

    Args:
        space: a space, or the name of a preset.
        recipe: the base, or the name of one.
        data: a source for `data.load`, or splits that it made.
        budget: limits of candidates and of the search, as `Budget.parse` reads them.
        mode: "refuse", "repair" or "iso"; see `budget.fitted`.
        objective: "accuracy", "cheapest" or "pareto"; see `Objective`.
        within: points of accuracy that "cheapest" may lose, such as 0.5.
        cost: "macs", "params", "memory" or "latency", of "cheapest" and "pareto".
        against: "default" or "best": what "cheapest" is as accurate as.
        format: what latency is measured of, as `serving.export` has it.
        quantize: of that, "int8" or "float16".
        baseline: trials of the default with different seeds, before all others: they
            show what is noise. 0 for none; 3 by default, fewer of less than 18 trials.
        tuner: "random", "bayesian", "hyperband" (trains many for few epochs, the best
            for more) or "grid".
        trials: how many at most; Hyperband has its own number.
        folder: of the search; a new one under `runs/` if None.
        seed: fixes the candidates, and splits, weights and order of every trial.
        strategy: a `tf.distribute` strategy that each trial trains under.
        tracker: logs the search, and each trial as its child.
        final: whether `retrain.retrain` follows, which names the winner: then no model
            is logged.
        console: where trials are shown; nowhere if None.
        **loading: other arguments of `data.load`.

    Raises:
        UserError: space, recipe, data, budget and folder don't go together, or no trial
            was completed.
    """
    from tuning.hypermodel import ResidualHyperModel

    sought = Objective(kind=objective, within=within, cost=cost, against=against)
    if trials < 1:
        raise SearchError(f"trials: {trials} is not a positive integer")
    limits = Budget.parse(budget) if isinstance(budget, str) else budget or Budget()
    export = Export(format, quantize)
    check_asked(sought, export, limits, mode)
    hypermodel = ResidualHyperModel(
        space, recipe, data, budget=limits, mode=mode, seed=seed, **loading
    )
    folder = Path(folder) if folder else new_folder("search")
    asked = _Search(
        hypermodel=hypermodel,
        folder=folder,
        objective=sought,
        export=export,
        tuner=tuner,
        trials=trials,
        baseline=baseline_of(baseline, folder, sought, tuner, trials),
        strategy=strategy,
        tracker=tracker,
        final=final,
        console=console,
    )
    from keras_resnet.data.dataset import absolute  # it imports TensorFlow

    settings = _settings(asked)
    hypermodel.budget = check_feasible(hypermodel.candidates, sought)
    open_search(folder, settings, absolute(data) if isinstance(data, str) else None)
    worker = processes.is_worker()
    with contextlib.nullcontext() if worker else Run(folder).lock():
        _run(asked._replace(console=None) if worker else asked)
        if worker:
            sys.exit(0)  # the result is the chief's
        return read_result(folder)


def check_asked(
    objective: Objective, export: Export, budget: Budget, mode: Mode
) -> None:
    """Refuses what doesn't go together, before anything is loaded.

    Raises:
        UserError: naming it.
    """
    if mode == "iso" and not budget.macs:
        raise BudgetError("budget: 'iso' needs multiply-adds, such as 40MMAC")
    if mode == "repair" and not (budget.macs or budget.params or budget.memory):
        raise BudgetError(
            "over: 'repair' makes networks narrower that are over a --budget of "
            "multiply-adds, parameters or memory; there is none"
        )
    if mode == "iso" and objective.kind != "accuracy" and objective.cost == "macs":
        raise SearchError(
            "cost: with 'iso' all networks cost the same multiply-adds; give another "
            "cost, or another mode (--over)"
        )
    runtimes.check_formats([export.format], export.quantize)
    if export != Export() and not (budget.latency or objective.cost == "latency"):
        raise SearchError(
            "format, quantize: say what latency is measured of; give --cost latency, "
            "or a limit such as --budget 5ms"
        )


def check_feasible(candidates: Candidates, sought: Objective) -> Budget:
    """The budget, without networks that are not cheaper than the default.

    Raises:
        BudgetError: no candidate meets it.
    """
    budget, cost = candidates.budget, sought.cost
    costs = costs_of(candidates.recipe)
    also = ""
    if sought.kind == "cheapest" and sought.against != "best" and cost in costs:
        limits = [limit for limit in (costs[cost] - 1, getattr(budget, cost)) if limit]
        lowered = dataclasses.replace(budget, **{cost: min(limits)})
        also = " and costs less than the default" if lowered != budget else ""
        budget = lowered
    check_budget(candidates._replace(budget=budget), also)
    return budget


def baseline_of(
    asked: int | None, folder: Path, sought: Objective, tuner: TunerName, trials: int
) -> int:
    """Trials of the default: as asked, as the search has them, or by default.

    Raises:
        SearchError: there must be some, or there are too many.
    """
    needed = sought.kind == "cheapest" and sought.against == "default"
    if asked is None and (folder / SEARCH).exists():
        return int(read_settings(folder)["baseline"])
    if asked is None:
        few = 0 if trials < 2 * SHARE else min(BASELINE, trials // SHARE)
        return BASELINE if needed or tuner == "hyperband" else few
    if asked < 0 or (needed and not asked):
        raise SearchError(
            f"baseline: {count(asked, 'trial')} of the default tell no accuracy that "
            "the cheapest network must keep; give 2 or more"
        )
    if asked >= trials and tuner != "hyperband":
        raise SearchError(
            f"baseline: {asked} of {count(trials, 'trial')} would be of the default; "
            "give more trials"
        )
    return asked


def _settings(asked: _Search) -> dict[str, Any]:
    """What has to be the same when a search is resumed."""
    hypermodel = asked.hypermodel
    return {
        "space": hypermodel.space.to_dict(),
        "recipe": hypermodel.recipe.to_dict(),
        "data": hypermodel.splits(hypermodel.recipe).fingerprint,
        "budget": vars(hypermodel.budget),
        "mode": hypermodel.mode,
        "objective": asked.objective.kind,
        "within": asked.objective.within,
        "cost": asked.objective.cost,
        "against": asked.objective.against,
        **asked.export._asdict(),
        "tuner": asked.tuner,
        "baseline": asked.baseline,
        "seed": hypermodel.seed,
    }


def _run(asked: _Search) -> None:
    """Runs the trials that are left, and writes and logs what came of them."""
    from tuning.oracles import make_oracle
    from tuning.tuner import SearchTuner

    hypermodel, folder, tracker = asked.hypermodel, asked.folder, asked.tracker
    total = None if asked.tuner == "hyperband" else asked.trials
    progress = Progress(
        asked.console,
        folder,
        total,
        hypermodel.budget.time,
        asked.baseline,
        asked.objective,
    )
    oracle = make_oracle(
        asked.tuner,
        hypermodel,
        objective=asked.objective,
        trials=asked.trials,
        baseline=asked.baseline,
        on_change=progress.show,
    )
    log = None if processes.is_worker() else tracker
    with progress, tracked(log, folder, hypermodel):
        tuner = SearchTuner(
            oracle,
            hypermodel,
            asked.objective,
            export=asked.export,
            track=functools.partial(tracker.child, folder) if tracker else None,
            distribution_strategy=asked.strategy,
            directory=str(folder),
            project_name=PROJECT,
        )
        with _watched(oracle, asked):
            tuner.search()
        if not processes.is_worker():
            result = read_result(folder)
            files.write_text(folder / BEST, result.recipe.to_json())
            write_report(folder)
            if tracker:
                splits = hypermodel.splits(result.recipe)
                images, _ = next(iter(splits.val.as_numpy_iterator()))
                log_best(tracker, result.best, folder, images, splits.class_names,
                         model=not asked.final)  # fmt: skip


def _watched(oracle: Any, asked: _Search) -> contextlib.AbstractContextManager[None]:
    """Keeps a chief from waiting for dead workers, and a worker for a dead chief."""
    address = processes.own_address()
    if address is None:
        return contextlib.nullcontext()
    heartbeats = processes.Heartbeats(asked.folder)
    if processes.is_worker():
        name = os.environ["KERASTUNER_TUNER_ID"]
        return processes.watching_chief(address, lambda: heartbeats.beat(name))
    log = asked.console.print if asked.console else lambda line: None
    return processes.watching_workers(heartbeats, oracle.reassign, log)
