"""The options that several commands have, and the records that they become."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from keras_resnet.cli.output import json_alone
from keras_resnet.errors import SpecError, UserError
from keras_resnet.naming import renamed
from keras_resnet.presets import get_spec
from keras_resnet.spec import ResNetSpec

if TYPE_CHECKING:
    from rich.console import Console

    from keras_resnet.recipe import Recipe
    from keras_resnet.tracking import MLflowTracker

Command = Callable[..., None]
Option = Callable[[Command], Command]

PATH = click.Path(path_type=Path)
POSITIVE = click.IntRange(1)


class Side(click.IntRange):
    """Of square images, in pixels."""

    def convert(self, value: Any, *place: Any) -> Any:
        """The number, or a hint where two were given."""
        if re.fullmatch(r"\d+[x*,]\d+", str(value).strip()):
            self.fail(f"{value!r} is not one number, the side of a square.", *place)
        return super().convert(value, *place)


class Finite(click.FloatRange):
    """A number in a range; click takes nan for one in any."""

    def convert(self, value: Any, *place: Any) -> Any:
        """The number."""
        if not math.isfinite(number := super().convert(value, *place)):
            self.fail(f"{value!r} is not a finite number.", *place)
        return number


SIDE = Side(1)


def json_option(text: str) -> Option:
    """--json, with which a command prints JSON alone."""
    option = click.option("--json", "as_json", is_flag=True, help=text)
    return lambda command: option(json_alone(command))


as_json = json_option("Print JSON.")
folder = click.option("--folder", type=PATH, help="Run folder.")

model = click.option("--model", help="A preset instead of the recipe's network.")
spec = click.option("--spec", "spec_file", type=PATH, help="Its JSON.")
recipe = click.option(
    "--recipe", default="digits", help="Name or JSON file.", show_default=True
)
assignments = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="FIELD=VALUE",
    help="A field of the recipe, or dotted of its model or augment; may be repeated.",
)
recipe_or_choice = click.option(
    "--recipe",
    help="Name or JSON file; by default digits, or what suits --data folder:PATH.",
)
epochs = click.option("--epochs", type=POSITIVE, help="Instead of the recipe's.")
image_size = click.option("--image-size", type=SIDE, help="Side in pixels.")

data = click.option(
    "--data",
    help="digits, fashion_mnist, tfds:NAME[:CONFIG], folder:PATH, csv:FILE, "
    "tfrecord:FILES or FILE.npz; by default what the recipe is for.",
)
same_data = click.option(
    "--data", help="The same images, where they are elsewhere now."
)
data_dir = click.option(
    "--data-dir",
    type=PATH,
    help="Folder of IDX files, or of what TFDS has prepared.",
)
download = click.option(
    "--download", is_flag=True, help="Let TFDS fetch what isn't prepared."
)
strict = click.option("--strict", is_flag=True, help="An unreadable image is an error.")
subfolders = click.option(
    "--subfolders/--no-subfolders",
    default=None,
    help="Whether folders below a class' are of the class; by default those that hold "
    "images of the same kind.",
)
cache = click.option(
    "--cache",
    type=PATH,
    help="Folder to keep images in, decoded and shrunk: they are decoded once for all "
    "epochs and runs.",
)
label_columns = click.option(
    "--label-columns",
    callback=lambda *given: given[-1] and tuple(given[-1].split(",")),
    help="Of csv:FILE, with commas between: those that hold classes, labels or values.",
)
split_seed = click.option(
    "--split-seed",
    type=click.IntRange(0, 2**32 - 1),
    help="Of the splits, by default --seed; with the weights of a run on the same "
    "images, its own.",
)
train_images = click.option(
    "--train-images", type=POSITIVE, help="Learn from so many of the images."
)

precision = click.option(
    "--precision",
    default="auto",
    type=click.Choice(["auto", "float32", "mixed_bfloat16", "mixed_float16"]),
    show_default=True,
    help="auto: mixed on GPUs with tensor cores.",
)
sync_batch_norm = click.option(
    "--sync-batch-norm", is_flag=True, help="Batch statistics over all devices."
)
recompute = click.option(
    "--recompute", is_flag=True, help="Less memory for a third more time."
)

track = click.option("--track/--no-track", default=True, help="Log to MLflow.")
experiment = click.option(
    "--experiment", default="keras_resnet", show_default=True, help="MLflow's."
)
register = click.option(
    "--register", help="Make the model a version of NAME, as NAME@ALIAS."
)
tag = click.option(
    "--tag", "tags", multiple=True, help="KEY=VALUE for MLflow; may be repeated."
)


def strategy(*more: str) -> Option:
    """What to train on: one device, the GPUs of this machine, or `more`."""
    workers = ", or the workers of TF_CONFIG" if "multiworker" in more else ""
    return click.option(
        "--strategy",
        default="auto",
        type=click.Choice(["auto", "one", "mirrored", *more]),
        show_default=True,
        help=f"One device, or the GPUs of this machine{workers}.",
    )


def gather(name: str, record: Callable[..., Any], *options: Option) -> Option:
    """Gives a command some options, and hands it their values as one record.

    Args:
        name: the command's parameter.
        record: called with the values by their names.
        options: in the order of the help.
    """

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def gathered(**values: Any) -> None:
            fields = {key: values.pop(key) for key in names}
            command(**values, **{name: record(**fields)})

        with_options: Command = gathered
        for option in reversed(options):
            with_options = option(with_options)
        # Click collects a function's options here, the last first.
        parameters: list[click.Parameter] = vars(with_options)["__click_params__"]
        names = [parameter.name for parameter in parameters[-len(options) :]]
        return with_options

    return decorate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """A recipe's name or file, what it is given instead of its own, and its data."""

    recipe: str | None = None
    data: str | None = None
    model: str | None = None
    spec_file: Path | None = None
    epochs: int | None = None
    freeze: str | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    image_size: int | None = None
    assignments: tuple[str, ...] = ()

    @property
    def names_network(self) -> bool:
        """Whether the network is another than the recipe's."""
        named = (text.startswith("model") for text in self.assignments)
        return bool(self.model or self.spec_file) or any(named)

    @property
    def leaves_choice(self) -> bool:
        """Whether only a folder of images is given, and not how to train on it."""
        given = self.recipe or self.model or self.spec_file
        return not given and (self.data or "").startswith("folder:")

    def resolve(self, chosen: Recipe | None = None) -> tuple[Recipe, str]:
        """The recipe with its changes, and its data.

        Args:
            chosen: instead of a name's.

        Raises:
            UserError: no such recipe or network, no data for it, or a value that a
                recipe can't have.
        """
        if chosen and self.data:
            base, data = chosen, self.data
        else:
            base, data = recipe_and_data(self.recipe or "digits", self.data)
        changes = {
            "model": spec_from(self.model, self.spec_file),
            "freeze": self.freeze,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "image_size": self.image_size,
        }
        given = {key: value for key, value in changes.items() if value is not None}
        epochs = {"epochs": self.epochs} if self.epochs else {}
        for name in {text.partition("=")[0] for text in self.assignments}:
            if name in given | epochs:
                option = name.replace("_", "-")
                raise UserError(
                    f"set: {name} is given by --{option} too; leave one out"
                )
        base = base.over(self.epochs or base.epochs).replace(**given)
        return base.set(self.assignments), data


@dataclasses.dataclass(frozen=True, kw_only=True)
class Device:
    """What to compute on, and how."""

    strategy: str
    precision: str = "auto"
    sync_batch_norm: bool = False
    recompute: bool = False

    def make(self) -> Any:
        """The strategy of the devices that there are."""
        from keras_resnet.training.devices import distribution

        return distribution.make_strategy(self.strategy)

    def keywords(self) -> dict[str, Any]:
        """The arguments of `training.train`."""
        from keras_resnet.training.devices import distribution

        strategy = self.make()
        automatic = self.precision == "auto"
        return {
            "strategy": strategy,
            "precision": distribution.precision() if automatic else self.precision,
            "sync_batch_norm": self.sync_batch_norm,
            "recompute": self.recompute,
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tracking:
    """Whether and as what to log to MLflow.

    Raises:
        UserError: something is to be done in MLflow, but nothing logged; or a tag is
            not KEY=VALUE.
    """

    track: bool
    experiment: str
    register: str | None = None
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.track and (self.register or self.tags):
            option = "register" if self.register else "tag"
            raise UserError(
                f"{option}: with --no-track there is no MLflow; leave one out"
            )
        for pair in self.tags:
            if "=" not in pair.lstrip("="):
                raise UserError(f"tag: {pair!r} is not KEY=VALUE")

    def tracker(self, console: Console, register: str = "") -> MLflowTracker | None:
        """What logs, if anything; `register` is the name where none is given."""
        if not self.track:
            return None
        from keras_resnet.tracking import MLflowTracker

        return MLflowTracker(
            self.experiment,
            console,
            register=self.register or register or None,
            tags=dict(pair.split("=", 1) for pair in self.tags),
        )


def check_size(recipe: Recipe, data: str) -> None:
    """Refuses a network that images are too small for, where their size is known.

    Raises:
        SpecError: they are.
    """
    from keras_resnet.data.sources import SIDES
    from keras_resnet.plan import make_plan

    spec, side = recipe.model, recipe.image_size or SIDES.get(data)
    if side and len(spec.input_shape) == 3:
        make_plan(spec.replace(input_shape=spec.image_shape(side)))


def given() -> set[str]:
    """The parameters of the command that runs which are given, and not by default."""
    context = click.get_current_context()
    return {
        name
        for name in context.params
        if context.get_parameter_source(name) == ParameterSource.COMMANDLINE
    }


def command_line(chosen: Mapping[str, Any]) -> str:
    """The command that runs, with what was chosen in place of what wasn't given.

    Args:
        chosen: values by the names of options; those that were given have their own.
    """
    context = click.get_current_context()
    values = {name: context.params[name] for name in given()}
    set_already = {text.partition("=")[0] for text in values.get("assignments", ())}
    for name, value in chosen.items():
        if name == "assignments":
            left = [text for text in value if text.partition("=")[0] not in set_already]
            values[name] = (*left, *values.get(name, ()))
        elif name not in set_already:
            values.setdefault(name, value)
    words = ["keras-resnet", str(context.info_name)]
    for parameter in context.command.params:
        value = values.get(str(parameter.name))
        if isinstance(value, bool):
            words.append((parameter.opts if value else parameter.secondary_opts)[0])
        elif value is not None:
            several = isinstance(value, tuple)
            for each in value if several else (value,):
                words += [parameter.opts[0], str(each)]
    return shlex.join(words)


def spec_from(name: str | None, file: Path | None) -> ResNetSpec | None:
    """The network of a command: a preset, a file, or none."""
    if name and file:
        raise SpecError(f"network: give a preset ({name}) or --spec ({file}), not both")
    if file:
        return renamed(ResNetSpec.from_json(read_text(file)))
    return get_spec(name) if name else None


def recipe_and_data(name: str, data: str | None) -> tuple[Recipe, str]:
    """The recipe of a name or JSON file, and the data that it is for, if none is given.

    Raises:
        UserError: no such recipe, or it is for no data by itself.
    """
    from keras_resnet.recipe import Recipe
    from keras_resnet.recipes import ROWS, get_recipe

    if name.endswith(".json"):
        recipe = Recipe.from_json(read_text(Path(name)))
        recipe = recipe.replace(model=renamed(recipe.model))
    else:
        recipe = get_recipe(name)
    data = data or {row.recipe.name: row.data for row in ROWS}.get(recipe.name)
    if data in (None, "folder:PATH"):
        raise UserError(f"data: {name} is for no data by itself; name some by --data")
    return recipe, data


def read_text(path: Path) -> str:
    """A text file, or one line that says why not."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise SpecError(f"file: can't read {path}: {reason}") from None
