"""The command line. TensorFlow is imported only by the commands that need it."""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections.abc import Iterator
from fnmatch import fnmatchcase
from math import prod
from pathlib import Path
from typing import Any

import click

import keras_resnet
from keras_resnet import runtime
from keras_resnet.cost import Cost, cost_of, estimate_cost
from keras_resnet.errors import UserError
from keras_resnet.plan import Conv, Plan, Pool, Shape, make_plan
from keras_resnet.presets import PRESETS, get_spec, list_networks
from keras_resnet.spec import ResNetSpec, SpecError


class _Mistake(click.ClickException):
    """A user's mistake: one line, exit code 2."""

    exit_code = 2


class _Commands(click.Group):
    """A group whose commands may raise `UserError`."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            raise _Mistake(str(error)) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(keras_resnet.__version__)
def main() -> None:
    """Residual networks for Keras: list, show, train, evaluate, predict."""


@main.command("list")
@click.argument("pattern", default="*")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_command(pattern: str, as_json: bool) -> None:
    """Show the networks that can be built by name.

    PATTERN is a shell pattern.

    Example: keras-resnet list 'wrn_*'
    """
    names = list_networks(pattern)
    if not names:
        raise SpecError(f"pattern: no network matches {pattern!r}")
    rows = [(name, PRESETS[name], estimate_cost(PRESETS[name].spec)) for name in names]
    if as_json:
        fields = [
            {
                "name": name,
                "depth": preset.depth,
                "params": cost.params,
                "total_params": cost.total_params,
                "macs": cost.macs,
                "source": preset.source,
            }
            for name, preset, cost in rows
        ]
        click.echo(json.dumps(fields, indent=2))
        return
    table = _table("name", "depth>", "trainable>", "total>", "MACs>", "source")
    for name, preset, cost in rows:
        table.add_row(
            name,
            str(preset.depth),
            f"{cost.params:,}",
            f"{cost.total_params:,}",
            _macs(cost.macs),
            preset.source,
        )
    _print(table)


@main.command()
@click.argument("name", required=False)
@click.option("--spec", "spec_file", type=click.Path(path_type=Path), help="JSON spec.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: spec, cost, parts.")
@click.option(
    "--save-spec", type=click.Path(path_type=Path), help="Write the spec, to edit it."
)
def show(
    name: str | None, spec_file: Path | None, as_json: bool, save_spec: Path | None
) -> None:
    """Show a network unit by unit.

    Example: keras-resnet show resnext50_32x4d
    """
    spec = _spec(name, spec_file)
    if spec is None:
        raise SpecError("network: name a preset or give --spec FILE")
    plan = make_plan(spec)
    cost = estimate_cost(plan)
    if save_spec:
        _save(save_spec, spec.to_json())
    if as_json:
        fields = {
            "spec": spec.to_dict(),
            "weighted_layers": plan.depth,
            "cost": cost._asdict(),
            "parts": _rows(plan),
        }
        click.echo(json.dumps(fields, indent=2))
        return
    from rich.markup import escape

    title = escape(f"{spec.name}: {plan.depth} weighted layers")
    table = _table(
        "part", "in", "out", "stride>", "groups>", "shortcut", "merge", "survival>",
        "trainable>", "MACs>", title=title,
    )  # fmt: skip
    for row in _rows(plan):
        table.add_row(
            row["name"],
            _shape(row["in_shape"]),
            _shape(row["shape"]),
            str(row["stride"]),
            str(row["groups"]),
            row["shortcut"],
            row["merge"],
            f"{row['survival']:.4g}",
            f"{row['params']:,}",
            _macs(row["macs"]),
        )
    _print(table)
    click.echo(
        f"{cost.params:,} trainable parameters, {cost.total_params:,} in all; "
        f"{_macs(cost.macs)} MACs an image"
    )


def _rows(plan: Plan) -> list[dict[str, Any]]:
    """Stem, units and head with their costs."""
    known_size = None not in plan.spec.input_shape
    last = plan.units[-1].shape

    def row(name: str, in_shape: Shape, ops: Any, **rest: Any) -> dict[str, Any]:
        ops = list(ops)
        cost: Cost = cost_of(ops, known_size=known_size)
        groups = max((op.groups for op in ops if isinstance(op, Conv)), default=1)
        fields = {"stride": 1, "shortcut": "", "merge": "", "survival": 1.0} | rest
        return {
            "name": name,
            "in_shape": list(in_shape),
            "shape": list(ops[-1].shape),
            "groups": groups,
            "params": cost.params,
            "macs": cost.macs,
            **fields,
        }

    stem_stride = prod(op.stride for op in plan.stem if isinstance(op, Conv | Pool))
    rows = [row("stem", plan.spec.input_shape, plan.stem, stride=stem_stride)]
    for unit in plan.units:
        merge = unit.merge
        rows.append(
            row(
                unit.name,
                unit.in_shape,
                unit.ops,
                stride=unit.stride,
                shortcut=unit.shortcut_kind,
                merge=merge.kind if merge else "none",
                survival=merge.survival if merge else 1.0,
            )
        )
    return [*rows, row("head", last, plan.head)]


@main.command()
@click.argument("pattern", default="*")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def recipes(pattern: str, as_json: bool) -> None:
    """Show the recipes that networks can be trained by.

    PATTERN is a shell pattern.

    Example: keras-resnet recipes '*cifar*'
    """
    from keras_resnet.training.recipe_table import ROWS
    from keras_resnet.training.recipes import RecipeError

    rows = [row for row in ROWS if fnmatchcase(row.recipe.name, pattern)]
    if not rows:
        raise RecipeError(f"pattern: no recipe matches {pattern!r}")
    if as_json:
        fields = [
            {
                "name": row.recipe.name,
                "expected": row.expected,
                "hardware": row.hardware,
                "command": row.command,
                "recipe": row.recipe.to_dict(),
            }
            for row in rows
        ]
        click.echo(json.dumps(fields, indent=2))
        return
    table = _table("recipe", "network", "epochs>", "batch>", "data", "source")
    for row in rows:
        recipe = row.recipe
        table.add_row(
            recipe.name,
            recipe.model.name,
            str(recipe.epochs),
            str(recipe.batch_size),
            row.data,
            recipe.source.split(". ")[0],
        )
    _print(table)


@main.command()
@click.option(
    "--recipe", default="digits", help="Name or JSON file.", show_default=True
)
@click.option("--model", help="A preset instead of the recipe's network.")
@click.option("--spec", "spec_file", type=click.Path(path_type=Path), help="Its JSON.")
@click.option(
    "--data",
    help="digits, fashion_mnist, tfds:NAME[:CONFIG], folder:PATH or FILE.npz; by "
    "default what the recipe is for.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="Folder of IDX files, or of what TFDS has prepared.",
)
@click.option("--download", is_flag=True, help="Let TFDS fetch what isn't prepared.")
@click.option("--strict", is_flag=True, help="An unreadable image is an error.")
@click.option("--folder", type=click.Path(path_type=Path), help="Run folder.")
@click.option("--seed", default=0, type=click.IntRange(0, 2**32 - 1), show_default=True)
@click.option("--epochs", type=click.IntRange(1), help="Instead of the recipe's.")
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    help="Instead of the recipe's, over all devices; the learning rate stays.",
)
@click.option("--learning-rate", type=float, help="Instead of the recipe's.")
@click.option("--image-size", type=click.IntRange(1), help="Instead of the recipe's.")
@click.option(
    "--smoke", is_flag=True, help="Try it out: a small network and few steps."
)
@click.option(
    "--strategy",
    default="auto",
    type=click.Choice(["auto", "one", "mirrored", "multiworker"]),
    show_default=True,
    help="One device, the GPUs of this machine, or the workers of TF_CONFIG.",
)
@click.option(
    "--precision",
    default="auto",
    type=click.Choice(["auto", "float32", "mixed_bfloat16", "mixed_float16"]),
    show_default=True,
    help="auto: mixed on GPUs with tensor cores.",
)
@click.option(
    "--sync-batch-norm", is_flag=True, help="Batch statistics over all devices."
)
@click.option("--recompute", is_flag=True, help="Less memory for a third more time.")
@click.option("--track/--no-track", default=True, help="Log to MLflow.")
def train(
    recipe: str,
    model: str | None,
    spec_file: Path | None,
    data: str | None,
    data_dir: Path | None,
    download: bool,
    strict: bool,
    folder: Path | None,
    seed: int,
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    image_size: int | None,
    smoke: bool,
    strategy: str,
    precision: str,
    sync_batch_norm: bool,
    recompute: bool,
    track: bool,
) -> None:
    """Train a network, test it, log it to MLflow and export it.

    With no arguments: a small residual network on scikit-learn's digits, in about a
    minute. An unfinished run named by --folder is continued.

    Example: keras-resnet train --recipe folder --data folder:photos
    """
    from keras_resnet.training.recipe_table import ROWS, get_recipe
    from keras_resnet.training.recipes import Recipe

    chosen = (
        Recipe.from_json(_read(Path(recipe)))
        if recipe.endswith(".json")
        else get_recipe(recipe)
    )
    data = data or {row.recipe.name: row.data for row in ROWS}.get(chosen.name)
    if data is None:
        raise UserError(f"data: {recipe} is for no data by itself; name some by --data")
    spec = _spec(model, spec_file)
    chosen = chosen.over(epochs or chosen.epochs)
    changes = {
        "model": spec,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "image_size": image_size,
    }
    chosen = chosen.replace(**{k: v for k, v in changes.items() if v is not None})
    chosen = chosen.smoke() if smoke else chosen
    if strategy == "multiworker":
        # TensorFlow would print a page on a lost worker, where we print a line.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    runtime.prepare()
    from keras_resnet.training import distribution

    devices = distribution.make_strategy(strategy)
    chief = distribution.is_chief(devices)
    from rich.console import Console

    from keras_resnet import runfolder
    from keras_resnet.tracking import MLflowTracker
    from keras_resnet.training import train as run_training

    console = Console(highlight=False, markup=False)
    tracker = MLflowTracker(console=console) if track and chief else None
    folder = folder or runfolder.new_name(chosen.name)
    with _warnings_as_lines():
        try:
            result = run_training(
                chosen,
                data=data,
                folder=folder,
                seed=seed,
                strategy=devices,
                tracker=tracker,
                console=console if chief else None,
                precision=distribution.precision()
                if precision == "auto"
                else precision,
                sync_batch_norm=sync_batch_norm,
                recompute=recompute,
                steps=SMOKE_STEPS if smoke else None,
                data_dir=data_dir,
                download=download,
                strict=strict,
            )
        except KeyboardInterrupt:
            click.echo(f"\nstopped; the same command with --folder {folder} goes on")
            raise SystemExit(130) from None
    if not chief:
        return
    click.echo(f"\n{_verdict(result.metrics)}; best epoch by validation loss")
    click.echo(f"run folder  {result.folder}")
    click.echo(f"SavedModel  {result.export}")
    if result.run_id:
        click.echo(f"MLflow run  {result.run_id}")
    click.echo("\nnext:")
    click.echo(f"  keras-resnet evaluate {result.folder}")
    click.echo(f"  keras-resnet predict {result.folder} {result.folder}/samples/*.png")
    if tracker and result.run_id:
        click.echo(f"  mlflow ui --backend-store-uri {tracker.uri}")


SMOKE_STEPS = 50  # of an epoch


def _verdict(metrics: dict[str, float]) -> str:
    """Test metrics on one line."""
    right = round(metrics["accuracy"] * metrics["images"])
    parts = [
        f"test accuracy {metrics['accuracy']:.2%} ({right} of "
        f"{metrics['images']:.0f} images)",
        f"cross-entropy {metrics['loss']:.4f}",
        f"calibration error {metrics['calibration_error']:.2%}",
    ]
    if "top5_accuracy" in metrics:
        parts.insert(1, f"top-5 {metrics['top5_accuracy']:.2%}")
    return ", ".join(parts)


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Shows what is wrong with data without a place in the code."""
    from keras_resnet.data import DataWarning

    show = warnings.showwarning

    def say(message: Any, category: type[Warning], *place: Any) -> None:
        if issubclass(category, DataWarning):
            click.echo(f"warning: {message}", err=True)
        else:
            show(message, category, *place)

    with warnings.catch_warnings():
        warnings.simplefilter("always", DataWarning)
        warnings.showwarning = say  # type: ignore[assignment]  # it takes any place
        yield


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(run: Path, as_json: bool) -> None:
    """Test a run's best model on the test images of its data.

    Example: keras-resnet evaluate runs/demo
    """
    from keras_resnet import runfolder

    runfolder.check_trained(run)
    runtime.prepare()
    from keras_resnet.training import evaluate as run_evaluation

    with _warnings_as_lines():
        metrics = run_evaluation(run)
    if as_json:
        click.echo(json.dumps(metrics))
    else:
        click.echo(_verdict(metrics))


@main.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--top", default=3, type=click.IntRange(1), show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def predict(model: Path, images: tuple[Path, ...], top: int, as_json: bool) -> None:
    """Name the classes of image files with their probabilities.

    MODEL is a run folder or a SavedModel's version folder. Images are read as the
    model's channels and resized to its size.

    Example: keras-resnet predict runs/demo runs/demo/samples/*.png
    """
    from keras_resnet import runfolder

    is_saved_model = (model / "saved_model.pb").is_file()
    if not is_saved_model:
        runfolder.check_trained(model)
    runtime.prepare()
    from keras_resnet.prediction import predict_files

    predictions = predict_files(model, images)
    if as_json:
        click.echo(
            json.dumps(
                [
                    {"image": str(path), "classes": dict(ranked[:top])}
                    for path, ranked in predictions
                ],
                indent=2,
            )
        )
        return
    for path, ranked in predictions:
        guesses = "  ".join(f"{name} {share:.1%}" for name, share in ranked[:top])
        click.echo(f"{path}: {guesses}")


@main.command()
@click.argument("names", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(names: tuple[str, ...], as_json: bool) -> None:
    """Show what networks run on here, how, and what to change.

    For each of NAMES, the convolutions are counted by the way in which this machine
    trains them: by TensorFlow's native op, by Winograd's method, or by a split of
    groups.

    Example: keras-resnet doctor resnet50
    """
    names = names or ("resnet50", "resnext50_32x4d", "wrn_28_10", "cifar_resnet20")
    plans = {name: make_plan(get_spec(name)) for name in names}
    runtime.prepare()
    from keras_resnet.convolution import PATHS, count_paths

    versions = runtime.versions()
    facts = runtime.describe()
    paths = {name: count_paths(plan) for name, plan in plans.items()}
    remedies = runtime.remedies()
    if as_json:
        fields = {"versions": versions, "convolutions": paths, "remedies": remedies}
        click.echo(json.dumps(facts | fields, indent=2))
        return
    table = _table("", "")
    table.show_header = False
    for key, value in (facts | versions).items():
        if isinstance(value, bool):
            value = "on" if value else "off"
        elif isinstance(value, list):
            value = ", ".join(value)
        table.add_row(key.replace("_", " "), str(value))
    _print(table)
    table = _table("convolutions in training", *(f"{path}>" for path in PATHS))
    for name, counts in paths.items():
        table.add_row(name, *(str(counts[path]) for path in PATHS))
    _print(table)
    for remedy in remedies or ["nothing to change"]:
        click.echo(remedy)


def _spec(name: str | None, file: Path | None) -> ResNetSpec | None:
    """The network of a command: a preset, a file, or none."""
    if name and file:
        raise SpecError(f"network: give a preset ({name}) or --spec ({file}), not both")
    if file:
        return ResNetSpec.from_json(_read(file))
    return get_spec(name) if name else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise SpecError(f"file: can't read {path}: {reason}") from None


def _save(path: Path, text: str) -> None:
    from keras_resnet import runfolder

    if path.exists():
        raise SpecError(f"file: {path} exists; name a new one")
    try:
        runfolder.write_text(path, text)
    except OSError as error:
        raise SpecError(f"file: can't write {path}: {error.strerror}") from None


def _table(*columns: str, title: str | None = None) -> Any:
    """A table; a ">" marks numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(
            column.rstrip(">"),
            justify="right" if column.endswith(">") else "left",
            # Where it is narrow, only the source is folded.
            no_wrap=column != "source",
        )
    return table


def _print(table: Any) -> None:
    from rich.console import Console

    console = Console()
    # A pipe has no width to keep to; a row that can't be folded is worth two lines.
    folds = any(not column.no_wrap for column in table.columns)
    wide = Console(width=200)
    if not console.is_terminal or (
        not folds and wide.measure(table).maximum > console.width
    ):
        console = wide
    console.print(table)


def _macs(macs: int | None) -> str:
    if macs is None:
        return "?"
    return f"{macs / 1e9:.3f} G" if macs >= 1e9 else f"{macs / 1e6:.3f} M"


def _shape(shape: list[int | None]) -> str:
    return "x".join("?" if side is None else str(side) for side in shape)


if __name__ == "__main__":
    main()
