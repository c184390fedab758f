"""`search`: a space, a recipe and a budget -> the best network found."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rich.console import Console

from keras_resnet import files
from keras_resnet.cost import estimate_cost
from keras_resnet.errors import BudgetError, UserError
from keras_resnet.recipe import Recipe
from keras_resnet.run import BEST as MODEL
from keras_resnet.run import LOCK, Run, new_folder
from keras_resnet.tracking import closing
from keras_resnet.units import in_units
from tuning import processes
from tuning.budget import Budget, Mode, macs_of
from tuning.decode import declare, recipe_from_hp
from tuning.search_progress import Progress
from tuning.search_report import write_report
from tuning.space import Range, Space
from tuning.trials import BEST, PROJECT, REPORT, SEARCH, Row, best_of, read_rows

if TYPE_CHECKING:
    from keras_resnet.tracking import MLflowTracker
    from tuning.hypermodel import ResidualHyperModel

TunerName = Literal["random", "bayesian", "hyperband", "grid"]
ObjectiveName = Literal["accuracy", "pareto"]
PROBES = 300  # samples that are costed before a search begins


class SearchError(UserError):
    """A search that can't be made; the message is one line."""


class SearchResult(NamedTuple):
    """What a search came to.

    Attributes:
        folder: the search's.
        best: the best trial.
        recipe: of the best trial; `best.json` in the folder.
        rows: all trials.
    """

    folder: Path
    best: Row
    recipe: Recipe
    rows: list[Row]


def search(
    space: Space | str,
    recipe: Recipe | str = "digits",
    *,
    data: Any = "digits",
    budget: Budget | str | None = None,
    mode: Mode = "refuse",
    objective: ObjectiveName = "accuracy",
    tuner: TunerName = "random",
    trials: int = 20,
    folder: Path | str | None = None,
    seed: int = 0,
    strategy: Any = None,
    tracker: MLflowTracker | None = None,
    console: Console | None = None,
    **loading: Any,
) -> SearchResult:
    """Searches for the network that does best on the validation images.

    The same call with the same folder goes on: finished trials are not run again, and
    one that was cut off goes on from its last epoch. Test images are not looked at.
    `report/` in the folder shows what was found.

    Args:
        space: a space or the name of a ready one.
        recipe: the base, or the name of one.
        data: a source for `data.load`, or splits that it made.
        budget: limits of candidates and of the search, as `Budget.parse` reads them.
        mode: "refuse", "repair" or "iso"; see `budget.fitted`.
        objective: "accuracy", or "pareto" against multiply-adds.
        tuner: "random", "bayesian", "hyperband" (trains the beginning of many, the rest
            of few) or "grid".
        trials: how many at most; Hyperband has its own number.
        folder: of the search; a new one under `runs/` if None.
        seed: fixes the samples, and splits, weights and order of every trial.
        strategy: a `tf.distribute` strategy that each trial trains under.
        tracker: is told of the search, and of each trial as its child.
        console: where trials are shown; nowhere if None.
        **loading: other arguments of `data.load`.

    Raises:
        UserError: space, recipe, data, budget and folder don't go together, or no trial
            came to anything.
    """
    from tuning.hypermodel import ResidualHyperModel

    if trials < 1:
        raise SearchError(f"trials: {trials} is not a positive integer")
    hypermodel = ResidualHyperModel(
        space, recipe, data, budget=budget, mode=mode, seed=seed, **loading
    )
    check_budget(hypermodel)
    folder = Path(folder) if folder else new_folder("search")
    described = {
        "space": hypermodel.space.to_dict(),
        "recipe": hypermodel.recipe.to_dict(),
        "data": hypermodel.splits(hypermodel.recipe).fingerprint,
        "budget": vars(hypermodel.budget),
        "mode": mode,
        "objective": objective,
        "tuner": tuner,
        "seed": seed,
    }
    claim(folder, described)
    lock = contextlib.nullcontext() if processes.is_worker() else Run(folder).lock()
    with lock:
        return _search(
            hypermodel, folder, objective, tuner, trials, strategy, tracker, console
        )


def _search(
    hypermodel: ResidualHyperModel,
    folder: Path,
    objective: str,
    kind: str,
    trials: int,
    strategy: Any,
    tracker: MLflowTracker | None,
    console: Console | None,
) -> SearchResult:
    from tuning.oracles import make_oracle
    from tuning.tuner import SearchTuner

    total = None if kind == "hyperband" else trials
    worker = processes.is_worker()
    shown = None if worker else console
    with Progress(shown, folder, total, hypermodel.budget.time) as progress:
        oracle = make_oracle(
            kind,
            hypermodel,
            objective=objective,
            trials=trials,
            seed=hypermodel.seed,
            on_change=progress.show,
        )
        with tracked(None if worker else tracker, folder, hypermodel):
            searcher = SearchTuner(
                oracle,
                hypermodel,
                track=functools.partial(tracker.child, folder) if tracker else None,
                distribution_strategy=strategy,
                directory=str(folder),
                project_name=PROJECT,
            )
            with guarded(oracle, folder, shown):
                searcher.search()
            if worker:
                sys.exit(0)  # the result is the chief's
            result = read_result(folder)
            files.write_text(folder / BEST, result.recipe.to_json())
            write_report(folder)
            if tracker:
                tell_best(tracker, result, hypermodel)
    return result


def guarded(
    oracle: Any, folder: Path, console: Console | None
) -> contextlib.AbstractContextManager[None]:
    """What keeps a chief from waiting for dead workers, and a worker for a chief."""
    address = processes.own_address()
    if address is None:
        return contextlib.nullcontext()
    signs = processes.Signs(folder)
    if processes.is_worker():
        name = os.environ["KERASTUNER_TUNER_ID"]
        return processes.ending_with_chief(address, lambda: signs.give(name))
    say = console.print if console else lambda line: None
    return processes.watching_workers(signs, oracle.take_back, say)


def read_result(folder: Path) -> SearchResult:
    """What a search came to, from its folder.

    Raises:
        SearchError: no trial came to an end.
    """
    rows = read_rows(folder)
    best = best_of(rows, files.read_json(folder / SEARCH)["objective"])
    if best is None:
        reasons = sorted({row.reason for row in rows if row.reason})
        raise SearchError(
            f"search: none of {len(rows)} trials in {folder} came to an end: "
            f"{'; '.join(reasons[:3])}"
        )
    return SearchResult(folder, best, best.recipe, rows)


def check_budget(hypermodel: ResidualHyperModel) -> None:
    """Refuses a budget that no sample meets, before anything is built.

    Raises:
        BudgetError: it says what the cheapest costs.
    """
    if all(limit is None for limit in vars(hypermodel.budget).values()):
        return
    costs = []
    space = hypermodel.space
    for values in itertools.chain(_corners(space), _random_samples(space)):
        hp = SimpleNamespace(values=values)
        if hypermodel.refusal(hp) is None:
            return
        spec = recipe_from_hp(hp, space, hypermodel.recipe).model
        costs.append((macs_of(spec), estimate_cost(spec).params))
    macs, params = map(min, zip(*costs, strict=True))
    raise BudgetError(
        f"budget: no network of the space {space.name} meets it; the "
        f"cheapest cost {in_units(macs, 'MAC')} and {in_units(params, 'param')}"
        + (f" ({hypermodel.refusal(hp)})" if hypermodel.mode == "iso" else "")
    )


def _corners(space: Space) -> Iterator[dict[str, Any]]:
    """Samples of the least numbers, among which is the cheapest; of all choices.

    The more paths a ResNeXt of one width has, the fewer parameters.
    """
    options = {}
    for field in space.searched:
        values = getattr(space, field)
        if isinstance(values, Range):
            values = (values.low, values.high)
        ends = values if isinstance(values[0], str) else (min(values), max(values))
        options[field] = ends if field in CHOSEN else ends[:1]
    for corner in itertools.product(*options.values()):
        yield dict(zip(options, corner, strict=True))


CHOSEN = ("block", "cardinality", "order", "stem")


def _random_samples(space: Space) -> Iterator[dict[str, Any]]:
    import keras_tuner

    oracle = keras_tuner.oracles.RandomSearchOracle(seed=1)
    declare(oracle.hyperparameters, space)
    for _ in range(PROBES):
        values = oracle._random_values()
        if values is None:
            return
        oracle._tried_so_far.add(oracle._compute_values_hash(values))
        yield values


def claim(folder: Path, described: dict[str, Any]) -> None:
    """Makes the folder this search's, or sees that it is.

    Raises:
        SearchError: it is another's, or something else.
    """
    path = folder / SEARCH
    described = json.loads(json.dumps(described))
    if path.exists():
        before = files.read_json(path)
        differing = [k for k in described if before.get(k) != described[k]]
        if differing:
            raise SearchError(
                f"folder: {folder} holds a search with another {', '.join(differing)}; "
                "name a new folder"
            )
        return
    own = (LOCK, "tracking")
    if folder.is_file() or (
        folder.is_dir() and any(entry.name not in own for entry in folder.iterdir())
    ):
        raise SearchError(
            f"folder: {folder} exists and is not a search; name a new one"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.write_json(path, described)
    except OSError as error:
        raise SearchError(
            f"folder: can't write to {folder}: {error.strerror}"
        ) from None


@contextlib.contextmanager
def tracked(
    tracker: MLflowTracker | None, folder: Path, hypermodel: ResidualHyperModel
) -> Iterator[None]:
    """The search's own run, closed as what it was."""
    if tracker is None:
        yield
        return
    described = files.read_json(folder / SEARCH)
    told = {key: described[key] for key in ("budget", "mode", "objective", "tuner")}
    space = hypermodel.space
    told |= {"space": space.name, "seed": hypermodel.seed, "data": described["data"]}
    told |= {f"space.{field}": getattr(space, field) for field in space.searched}
    tracker.start(folder.name, told, folder)
    tracker.set_tags({"search": space.name, "recipe": hypermodel.recipe.name})
    tracker.log_files([folder / SEARCH])
    with closing(tracker):
        yield


def tell_best(
    tracker: MLflowTracker, result: SearchResult, hypermodel: ResidualHyperModel
) -> None:
    """Logs the best trial's result and model on the search's run."""
    import keras

    from keras_resnet.surgery import to_stock

    folder, best, recipe, _ = result
    splits = hypermodel.splits(recipe)
    images, _ = next(iter(splits.val.as_numpy_iterator()))
    about = {
        "network": recipe.model.name,
        "recipe": recipe.name,
        "input": "raw pixels, 0 to 255",
        "output": "logits",
        "trial": best.trial,
        "class_names": list(splits.class_names),
    }
    tracker.log_metrics({f"best_{k}": v for k, v in best.metrics.items()}, 0)
    tracker.set_tags({"best_trial": best.trial})
    tracker.log_files([folder / BEST, folder / REPORT])
    model = keras.models.load_model(best.run / MODEL)
    tracker.log_model(to_stock(model), images[:4].astype("float32"), about)
