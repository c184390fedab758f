"""What networks cost and how they compare: profile, compare."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keras_resnet import runtime
from keras_resnet.cli import options
from keras_resnet.cli.group import main
from keras_resnet.cli.output import (
    check_new,
    macs_text,
    print_json,
    print_table,
    save_text,
    shape_text,
    table_of,
)
from keras_resnet.errors import UserError
from keras_resnet.units import count

if TYPE_CHECKING:
    pass

MIB = 2**20


@main.command()
@click.argument("network")
@click.option(
    "--image-size",
    type=options.SIDE,
    help="Side in pixels: of a preset, or where a model's is open.",
)
@click.option("--measure", "measured", is_flag=True, help="Time it here, too.")
@click.option(
    "--batch",
    "batches",
    multiple=True,
    type=click.IntRange(1),
    default=(1,),
    show_default=True,
    help="Batch size; may be given more than once.",
)
@click.option("--training", is_flag=True, help="Measure training steps too.")
@click.option("--repeats", type=click.IntRange(1), default=10, show_default=True)
@options.as_json
@click.option("--csv", "csv_file", type=options.PATH, help="Write the layers.")
def profile(
    network: str,
    image_size: int | None,
    measured: bool,
    batches: tuple[int, ...],
    training: bool,
    repeats: int,
    as_json: bool,
    csv_file: Path | None,
) -> None:
    """Show what a network costs, layer by layer.

    NETWORK is a preset, a network of the comparison (alexnet, googlenet, vgg16,
    inception_v4 ...), a run folder, or a .keras file. Multiply-adds (MACs) are of
    convolutions and dense layers, for one image.

    Example: keras-resnet profile resnet50 --measure --batch 1 --batch 8
    """
    _check_network(network, image_size)
    if csv_file:
        check_new(csv_file)
    runtime.prepare()
    from keras_resnet import analysis
    from keras_resnet.analysis.models import load_model

    model = load_model(network, image_size)
    shape = (image_size, image_size, model.input_shape[-1]) if image_size else None
    costs = analysis.profile(model, input_shape=shape)
    kinds = {"inference": measured, "training": training}
    found = {
        kind: analysis.measure(
            model,
            batches=batches,
            repeats=repeats,
            training=kind == "training",
            image_size=image_size,
        )
        for kind, wanted in kinds.items()
        if wanted
    }
    if csv_file:
        save_text(csv_file, costs.to_csv())
    if as_json:
        memory = {
            str(batch): {
                "inference": costs.peak_inference(batch),
                "training": costs.peak_training(batch),
            }
            for batch in batches
        }
        fields = {
            **costs.to_dict(),
            "peak_bytes": memory,
            "measured": {
                kind: [row._asdict() for row in rows] for kind, rows in found.items()
            },
        }
        print_json(fields)
        return
    _print_costs(costs)
    for batch in batches:
        click.echo(
            f"memory of a batch of {batch}: inference "
            f"{costs.peak_inference(batch) / MIB:,.1f} MiB, training "
            f"{costs.peak_training(batch) / MIB:,.1f} MiB (float32, without work space)"
        )
    for kind, rows in found.items():
        table = table_of(
            "batch>", "fastest ms>", "median ms>", "images/s>", "peak MiB>",
            title=f"{kind} measured here, {repeats} calls",
        )  # fmt: skip
        for row in rows:
            table.add_row(
                str(row.batch),
                f"{1000 * row.seconds_min:.2f}",
                f"{1000 * row.seconds_median:.2f}",
                f"{row.images_per_second:.4g}",
                f"{row.peak_bytes / MIB:,.0f}",
            )
        print_table(table)


def _check_network(network: str, image_size: int | None) -> None:
    """Refuses what is no network, or no size for it, before TensorFlow is loaded.

    Raises:
        UserError: it is none.
    """
    from keras_resnet.analysis.published import REFERENCES
    from keras_resnet.plan import make_plan
    from keras_resnet.presets import get_spec
    from keras_resnet.run import Run

    path = Path(network)
    if network in REFERENCES:
        if image_size:
            raise UserError(f"image-size: {network} has its own; leave it out")
    elif path.is_dir():
        Run(path).check_trained()
    elif path.suffix != ".keras":
        spec = get_spec(network)
        make_plan(spec.replace(input_shape=spec.image_shape(image_size)))
    elif not path.is_file():
        raise UserError(f"model: file {network} doesn't exist")


def _print_costs(costs: Any) -> None:
    from rich.markup import escape

    table = table_of(
        "layer", "kind", "out", "trainable>", "MACs>", "activations>", "MACs/byte>",
        title=escape(costs.name),
    )  # fmt: skip
    for layer in costs.layers:
        table.add_row(
            escape(layer.name),
            layer.kind,
            shape_text(list(layer.shape)),
            f"{layer.params:,}",
            macs_text(layer.macs) if layer.macs else "0",
            f"{layer.activations:,}",
            f"{layer.intensity:.1f}",
        )
    print_table(table)
    click.echo(
        f"{costs.params:,} trainable parameters, {costs.total_params:,} in all; "
        f"{macs_text(costs.macs)} MACs an image (multiply-adds of convolutions and "
        f"dense layers), {costs.activations:,} activations, "
        f"{costs.intensity:.1f} MACs a byte"
    )
    if costs.uncounted:
        click.echo(f"not counted: the MACs of {', '.join(costs.uncounted)}")


@main.command()
@click.option(
    "--out",
    type=options.PATH,
    default=Path("comparison"),
    show_default=True,
    help="Folder of the figures, their numbers and what was measured.",
)
@click.option("--runs", metavar="EXPERIMENT", help="Add own runs, from MLflow.")
@click.option("--measure", "measured", is_flag=True, help="Time the networks here.")
@click.option(
    "--network",
    "networks",
    multiple=True,
    help="Measure these only; may be given more than once.",
)
@click.option(
    "--batch",
    "batches",
    multiple=True,
    type=click.IntRange(1),
    default=(1, 2, 4, 8),
    show_default=True,
)
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True)
@click.option(
    "--budget",
    help="Name the most accurate networks within 4.1GMAC, 25Mparams, 500MiB or 30ms; "
    "draw nothing.",
)
@click.option("--test-set", help="Of a budget; by default ImageNet validation.")
@options.as_json
def compare(
    out: Path,
    runs: str | None,
    measured: bool,
    networks: tuple[str, ...],
    batches: tuple[int, ...],
    repeats: int,
    budget: str | None,
    test_set: str | None,
    as_json: bool,
) -> None:
    """Draw networks side by side: accuracy, operations, size, time, memory.

    The comparison of the lecture (AlexNet to Inception-ResNet-v2), one crop of ImageNet
    validation, and the winners of ILSVRC. What --measure times stays in the folder and
    isn't timed again. Each figure is a PNG, an SVG and a CSV.

    Example: keras-resnet compare --runs keras_resnet --measure --batch 1
    """
    from keras_resnet.analysis import comparing, published, timings
    from keras_resnet.units import parse_amount

    if networks and not measured:
        raise UserError("network: names what is measured; it needs --measure")
    if test_set and not budget:
        raise UserError("test-set: says nothing without --budget")
    limit = parse_amount(budget) if budget else None
    own = comparing.own_runs(runs) if runs else []
    found = timings.read_timings(out)
    if measured:
        names = [row.network for row in published.lecture()]
        for name in networks:
            if name not in names:
                raise UserError(f"network: {name!r} is not one of {', '.join(names)}")
        found = timings.measure_missing(
            out,
            networks or names,
            batches,
            repeats,
            say=lambda name: click.echo(f"measuring {name}", err=True),
        )
    if limit:
        _print_best(limit, test_set or published.IMAGENET, own, found, as_json)
        return
    from keras_resnet.analysis import charts

    results = published.lecture() + own
    paths = charts.draw(comparing.Comparison(results, found), out)
    if as_json:
        print_json([str(path) for path in paths])
        return
    table = table_of("network", "top-1 %>", "trainable>", "MACs>", "test set", "source")
    for result in sorted(results, key=lambda result: -result.accuracy):
        table.add_row(
            result.title,
            f"{result.accuracy:.2f}",
            f"{result.params:,}",
            macs_text(result.macs),
            f"{result.test_set}, {result.crop}",
            result.source,
        )
    print_table(table)
    click.echo(f"{count(len(paths) // 3, 'figure')} in {out}")
    if not found:
        click.echo("time and memory weren't measured yet: --measure")


def _print_best(
    budget: Any, test_set: str, own: list[Any], timings: list[Any], as_json: bool
) -> None:
    """The best published network within a budget, and the best of the own runs."""
    from keras_resnet.analysis import comparing
    from keras_resnet.analysis.published import (
        IMAGENET,
        ONE_CROP,
        published_results,
    )

    found = published_results(test_set)
    if any(row.test_set == IMAGENET for row in found):
        found = published_results(test_set, ONE_CROP)
    best = {"published": comparing.best_under(budget, found, timings)}
    if own and budget.quantity in comparing.MEASURED:
        click.echo(f"own runs: their {budget.quantity} is not measured", err=True)
        own = []
    for name in sorted({run.test_set for run in own}):
        mine = [run for run in own if run.test_set == name]
        best[f"own, on {name}"] = comparing.best_under(budget, mine, timings)
    if as_json:
        fields = {
            kind: entry and entry._asdict() | {"accuracy": entry.accuracy}
            for kind, entry in best.items()
        }
        print_json(fields)
        return
    for kind, entry in best.items():
        if entry is None:
            click.echo(f"{kind}: none is within the budget")
            continue
        click.echo(
            f"{kind}: {entry.title} ({entry.network}), {entry.accuracy:.2f} % top-1 of "
            f"{entry.test_set}, {entry.crop}; {entry.params:,} parameters, "
            f"{macs_text(entry.macs)} MACs. {entry.source}"
        )
