"""The search for networks: tune."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keras_resnet import runtime
from keras_resnet.cli import options
from keras_resnet.cli.group import main, stoppable
from keras_resnet.cli.output import print_json, warnings_as_lines
from keras_resnet.errors import UserError

if TYPE_CHECKING:
    from keras_resnet.recipe import Recipe
    from tuning import SearchResult, Space
    from tuning.objective import Objective
    from tuning.retrain import Comparison


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """What is searched, and how."""

    space: str
    budget: str | None
    mode: Any
    objective: Any
    within: float | None
    cost: Any
    against: Any
    format: str
    quantize: str | None
    tuner: Any
    trials: int | None
    baseline: int | None
    seed: int

    def __post_init__(self) -> None:
        if self.tuner == "hyperband" and self.trials:
            raise UserError(
                "trials: hyperband has its own number, which follows from the epochs; "
                "leave --trials out"
            )
        from tuning.budget import Budget
        from tuning.latency import Export
        from tuning.searching import check_asked

        budget = Budget.parse(self.budget) if self.budget else Budget()
        check_asked(self.sought, Export(self.format, self.quantize), budget, self.mode)

    @property
    def sought(self) -> Objective:
        """What trials are compared by."""
        from tuning.objective import Objective

        return Objective(
            kind=self.objective,
            within=self.within,
            cost=self.cost,
            against=self.against,
        )

    def keywords(self) -> dict[str, Any]:
        """Arguments of `tuning.search`."""
        fields = vars(self) | {"trials": self.trials or 20}
        del fields["space"]
        return fields

    def check_baseline(self, folder: Path) -> None:
        """Refuses more trials of the default than there are trials."""
        from tuning.searching import baseline_of

        baseline_of(self.baseline, folder, self.sought, self.tuner, self.trials or 20)

    def read_space(self, recipe: Recipe, data: str) -> Space:
        """That of a JSON file, or a preset for the recipe's network.

        Raises:
            UserError: there is none, or, of data whose shape is known by its name, no
                network of it meets the budget.
        """
        from keras_resnet.data.sources import known_shape
        from tuning.budget import Budget
        from tuning.feasibility import Candidates
        from tuning.searching import check_feasible
        from tuning.space import Space
        from tuning.spaces import get_space

        if self.space.endswith(".json"):
            space = Space.from_json(options.read_text(Path(self.space)))
        else:
            space = get_space(self.space, recipe.model)
        space.check(recipe)
        if known := known_shape(data, recipe.image_size):
            shape, classes = known
            model = recipe.model.replace(input_shape=shape, classes=classes)
            budget = Budget.parse(self.budget) if self.budget else Budget()
            base = recipe.replace(model=model)
            check_feasible(Candidates(space, base, budget, self.mode), self.sought)
        return space


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Where a search runs: in this process, by several, on several machines."""

    folder: Path | None
    workers: int | None
    chief: str | None
    worker: str | None

    def __post_init__(self) -> None:
        worker = self.worker
        if (self.workers or worker or self.chief) and not self.folder:
            raise UserError(
                "folder: several processes need --folder, which all of them see"
            )
        if self.workers and self.chief:
            raise UserError(
                "workers: with --chief, whose workers are started one by one"
            )
        if worker and not self.chief:
            raise UserError(f"worker: {worker!r} needs --chief HOST:PORT")
        if worker and ("chief" in worker or not re.fullmatch(r"\w[\w.-]*", worker)):
            raise UserError(
                f"worker: {worker!r} is no name of letters, digits and _ . -, without "
                "'chief', that is its own"
            )

    @property
    def supervised(self) -> bool:
        """Whether `search_by_workers` started this process."""
        from tuning import processes

        return bool(self.workers and processes.own_address())

    def join(self) -> None:
        """Makes this process the chief or worker that it is asked to be."""
        from tuning import processes

        if not self.chief:
            return
        address = processes.parse_address(self.chief)
        os.environ.update(processes.variables(address, self.worker or "chief"))
        if self.worker:
            processes.wait_for_chief(address)
        else:
            processes.check_address(address)

    def search_by_workers(self) -> None:
        """Runs this command by a chief and workers; ends with them if they fail."""
        from tuning import processes
        from tuning.supervisor import supervise

        with stoppable():
            code = supervise(
                [sys.executable, "-m", "keras_resnet.cli", *sys.argv[1:]],
                self.workers or 1,
                processes.free_address(),
                lambda line: click.echo(line, err=True),
            )
        if code:
            raise SystemExit(code)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retraining:
    """How winner and default are compared, if they are."""

    retrain: int | None
    retrain_epochs: int | None
    final: int | None

    def __post_init__(self) -> None:
        if self.final and not self.retrain:
            raise UserError(
                "final: needs --retrain, the seeds by which the best trials are "
                "trained again, such as --retrain 5"
            )
        if self.retrain_epochs and not self.retrain:
            raise UserError("retrain-epochs: says nothing without --retrain")


@main.command()
@options.gather(
    "asked",
    Search,
    click.option(
        "--space",
        default="wide",
        help="depth, wide, small, resnext, all, or a JSON file.",
        show_default=True,
    ),
    click.option(
        "--budget",
        help="Limits of a network and of the search: 4.1GMAC,2Mparam,500MB,5ms,2h.",
    ),
    click.option(
        "--over",
        "mode",
        type=click.Choice(["refuse", "repair", "iso"]),
        default="refuse",
        show_default=True,
        help="What is done with networks over the budget: left out, made narrower; "
        "iso: all get the widths at which they cost the budget's multiply-adds.",
    ),
    click.option(
        "--objective",
        type=click.Choice(["accuracy", "cheapest", "pareto"]),
        default="accuracy",
        show_default=True,
        help="The most accurate network; the cheapest that is as accurate; accuracy "
        "against cost.",
    ),
    click.option(
        "--within",
        type=float,
        help="Percentage points of accuracy that the cheapest may lose, such as 0.5.",
    ),
    click.option(
        "--cost",
        type=click.Choice(["macs", "params", "memory", "latency"]),
        default="macs",
        show_default=True,
        help="Of cheapest and pareto; latency is that of the export, measured here.",
    ),
    click.option(
        "--against",
        type=click.Choice(["default", "best"]),
        default="default",
        show_default=True,
        help="What the cheapest must be as accurate as: the network that the search "
        "starts from, or the best trial.",
    ),
    click.option(
        "--format",
        default="saved_model",
        show_default=True,
        help="What latency is measured of: saved_model, litert, onnx, openvino.",
    ),
    click.option(
        "--quantize",
        type=click.Choice(["int8", "float16"]),
        help="And whether that is quantized.",
    ),
    click.option(
        "--tuner",
        type=click.Choice(["random", "bayesian", "hyperband", "grid"]),
        default="random",
        show_default=True,
    ),
    click.option(
        "--trials",
        type=options.POSITIVE,
        help="At most; 20 by default. Hyperband has its own number.",
    ),
    click.option(
        "--baseline",
        type=click.IntRange(0),
        help="Trials of the default by different seeds, which show what is noise; 3 "
        "by default, fewer of less than 18 trials.",
    ),
    click.option(
        "--seed", default=0, type=click.IntRange(0, 2**32 - 2), show_default=True
    ),
)
@options.gather(
    "training",
    options.Training,
    options.recipe,
    options.model,
    options.spec,
    options.data,
    options.epochs,
    options.image_size,
)
@options.gather("loading", dict, options.data_dir, options.download)
@options.gather(
    "place",
    Place,
    click.option("--folder", type=options.PATH, help="Of the search."),
    click.option(
        "--workers",
        type=options.POSITIVE,
        help="Search by so many processes of this machine; those that die restart.",
    ),
    click.option(
        "--chief",
        help="HOST:PORT: be the chief of workers on other machines and listen there; "
        "or, with --worker, work for it. It has no authentication.",
    ),
    click.option("--worker", help="Be the worker of this name, which must be its own."),
)
@options.gather(
    "retraining",
    Retraining,
    click.option(
        "--retrain",
        type=options.POSITIVE,
        help="Train winner and default over so many seeds; compare them on test "
        "images.",
    ),
    click.option(
        "--retrain-epochs",
        type=options.POSITIVE,
        help="Of those; as a trial's if left out.",
    ),
    click.option(
        "--final",
        type=options.POSITIVE,
        help="Retrain so many of the best trials, and name the winner by that; 1 by "
        "default.",
    ),
)
@options.gather("device", options.Device, options.strategy())
@options.gather(
    "tracking",
    options.Tracking,
    options.track,
    options.experiment,
    click.option(
        "--register",
        help="Make the best model a version of NAME or NAME@ALIAS; by default of the "
        "folder's name, at best.",
    ),
)
@options.as_json
def tune(
    asked: Search,
    training: options.Training,
    loading: dict[str, Any],
    place: Place,
    retraining: Retraining,
    device: options.Device,
    tracking: options.Tracking,
    as_json: bool,
) -> None:
    """Search depth, width and cardinality for a better network.

    Networks are costed before they are built. The same command with the same --folder
    resumes a search that was interrupted or killed.

    Example: keras-resnet tune --space wide --budget 40MMAC --folder runs/search
    """
    from rich.console import Console

    from keras_resnet.data import sources
    from keras_resnet.run import new_folder
    from tuning.objective import check_task
    from tuning.trials import check_place

    recipe, data = training.resolve()
    check_task(recipe)
    sources.look(data, recipe.task, **loading)
    options.check_size(recipe, data)
    space = asked.read_space(recipe, data)
    folder = place.folder or new_folder("search")
    check_place(folder)
    asked.check_baseline(folder)
    console = Console(highlight=False, markup=False, stderr=as_json)
    name = re.sub("[@/:]", "-", folder.resolve().name)
    tracker = tracking.tracker(console, register=f"{name}@best")
    place.join()
    supervised = place.supervised
    if place.workers and not supervised:
        place.search_by_workers()
    runtime.prepare()
    import tuning
    from tuning.retrain import retrain
    from tuning.selection import read_result

    common = loading | {
        "data": data,
        "strategy": device.make(),
        "tracker": tracker,
        "console": console,
    }
    comparison = None
    with (
        warnings_as_lines(),
        stoppable(f"the same command with --folder {folder}"),
    ):
        if place.workers and not supervised:
            result = read_result(folder)
        else:
            final = bool(retraining.final)
            result = tuning.search(
                space, recipe, folder=folder, final=final, **asked.keywords(), **common
            )
        if supervised:
            return  # the process that started this one goes on
        if retraining.retrain:
            seeds = range(asked.seed + 1, asked.seed + 1 + retraining.retrain)
            comparison = retrain(
                result,
                recipe,
                seeds=seeds,
                final=retraining.final or 1,
                epochs=retraining.retrain_epochs,
                **common,
            )
            best = next(t for t in result.trials if t.id == comparison.trial)
            result = result._replace(best=best, recipe=best.recipe)
    if as_json:
        _print_json(result, comparison)
    else:
        words = ["--data", data, "--seed", str(asked.seed)]
        if loading["data_dir"]:
            words += ["--data-dir", str(loading["data_dir"])]
        _print(result, comparison, words)


def _print_json(result: SearchResult, comparison: Comparison | None) -> None:
    fields = {
        "folder": str(result.folder),
        "trial": result.best.id,
        "hyperparameters": result.best.values | result.best.hyperparameters,
        "spec": result.recipe.model.to_dict(),
        "metrics": result.best.metrics,
        "comparison": comparison.to_dict() if comparison else None,
    }
    print_json(fields)


def _print(
    result: SearchResult, comparison: Comparison | None, words: list[str]
) -> None:
    from tuning.trials import BEST, REPORT, in_words

    click.echo(
        f"\n{'winner' if comparison else 'best'}: trial {result.best.id}, "
        f"{result.recipe.model.name}, validation accuracy "
        f"{result.best.accuracy:.2%}; of {in_words(result.trials)}"
    )
    if comparison:
        click.echo(comparison.verdict)
    click.echo(f"search  {result.folder}")
    click.echo(f"report  {result.folder / REPORT}")
    click.echo("\nnext:")
    command = ["keras-resnet", "train", "--recipe", str(result.folder / BEST), *words]
    click.echo(f"  {shlex.join(command)}")
