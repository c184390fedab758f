"""convert: weights from one library's file to another's."""

from __future__ import annotations

import tempfile
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import click

from keras_resnet import hdf5, runtime
from keras_resnet.cli import options
from keras_resnet.cli.group import main
from keras_resnet.cli.output import check_new
from keras_resnet.errors import UserError, WeightsError
from keras_resnet.spec import ResNetSpec
from keras_resnet.units import count


@main.command()
@click.argument("source")
@click.argument("target", type=options.PATH)
@click.option("--model", help="The preset that a file's weights are of.")
@click.option("--spec", "spec_file", type=options.PATH, help="Its JSON.")
@click.option("--classes", type=click.IntRange(1), help="With a new classifier.")
@click.option("--channels", type=click.IntRange(1), help="Of the images, if not 3.")
@options.image_size
@click.option(
    "--output-stride",
    type=click.Choice(["8", "16", "32"]),
    help="Dilation in place of the strides beyond.",
)
@click.option(
    "--dialect",
    default="torchvision",
    show_default=True,
    help="Whose names a state dict is written with: torchvision (timm's too) or "
    '"torch\'s CIFAR".',
)
@click.option("--key", help="Where in a checkpoint its state dict is.")
def convert(
    source: str,
    target: Path,
    model: str | None,
    spec_file: Path | None,
    classes: int | None,
    channels: int | None,
    image_size: int | None,
    output_stride: str | None,
    dialect: str,
    key: str | None,
) -> None:
    """Convert weights between Keras, torchvision and timm.

    SOURCE is a published name, a repository of the Hugging Face Hub (hf:OWNER/NAME or
    timm/NAME), a run folder, or a file: .keras, .weights.h5, .h5, .safetensors or .pth.
    TARGET ends in .keras (a whole model; of a published name with its preprocessing
    inside), .weights.h5, .safetensors or .pth. It must not exist.

    Example: keras-resnet convert torchvision/resnet50.IMAGENET1K_V2 resnet50.keras
    """
    if not target.name.endswith((".keras", ".weights.h5", ".safetensors", ".pth")):
        raise UserError(
            f"target: {target} doesn't end in .keras, .weights.h5, .safetensors or .pth"
        )
    if target.exists():
        raise UserError(f"target: {target} exists; name a new file")
    check_new(target)
    spec = options.spec_from(model, spec_file)
    changes: dict[str, Any] = {}
    if output_stride:
        changes["output_stride"] = int(output_stride)
    from keras_resnet.plan import make_plan
    from keras_resnet.weights import dialects, origins
    from keras_resnet.weights.channels import adapted_stats

    dialects.by_title(dialect)
    found = origins.find(source)
    if found.run and found.spec:
        _check_same(spec or found.spec, found.spec, source)
        spec = spec or found.spec
    if spec is None and not found.described:
        raise UserError(
            f"model: {source} doesn't name its network; name a preset by --model, or "
            "give --spec"
        )
    if spec:
        shape = spec.image_shape(image_size, channels)
        make_plan(spec.replace(input_shape=shape, **changes))
    runtime.prepare()
    from keras_resnet import files, weights
    from keras_resnet.network import build

    new_head = False
    if spec is None and found.described:
        side = image_size or found.described.size
        new_head = classes not in (None, found.described.spec.classes)
        network = weights.pretrained(
            source, classes=classes, input_shape=(side, side, channels or 3), **changes
        )
    elif spec:
        stats = found.pixel_stats
        network = build(
            spec,
            input_shape=shape,
            classes=classes,
            pixel_stats=stats and adapted_stats(stats, shape[-1]),
            **changes,
        )
        new_head = _load(network, source, classes, channels is not None, key)
    if target.suffix in (".safetensors", ".pth"):
        weights.save(network, target, dialect=dialect)
    else:
        with files.replacing(target) as temporary:
            _write(network, temporary)
    click.echo(f"{target}: {network.name}, {network.count_params():,} parameters")
    if new_head:
        click.echo(
            f"its classifier of {count(classes or 0, 'class')} is new: random weights"
        )
    if target.suffix not in (".keras", ".safetensors"):
        _say_lost(network, target.suffix)


def _check_same(spec: ResNetSpec, own: ResNetSpec, run: str) -> None:
    """Refuses a network that the weights of a run are not of.

    Raises:
        WeightsError: its units have other layers.
    """
    from keras_resnet.cost import cost_of
    from keras_resnet.plan import make_plan

    asked, there = (
        [
            (op.name, cost_of([op]).total_params)
            for unit in plan.units
            for op in unit.ops
        ]
        for plan in map(make_plan, (spec, own))
    )
    if asked != there:
        raise WeightsError(
            f"model: {run} is of {own.name}, which is not {spec.name}; leave --model "
            "and --spec out"
        )


def _load(
    network: Any, source: str, classes: int | None, adapt: bool, key: str | None
) -> bool:
    """Loads weights; whether the classifier isn't among them, but a new one."""
    from keras_resnet import weights

    load = partial(weights.load, network, source, adapt_channels=adapt, key=key)
    try:
        load()
    except WeightsError:
        if classes is None:
            raise
        load(head=False)
        return True
    return False


def _write(network: Any, path: Path) -> None:
    """Writes a `.keras`, or the `.weights.h5` that is in it.

    HDF5 itself has hundreds of lines to say of a disk that is full.
    """
    if path.suffix == hdf5.KERAS:
        network.save(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder, f"model{hdf5.KERAS}")
        network.save(whole)
        with zipfile.ZipFile(whole) as archive:
            path.write_bytes(archive.read(hdf5.MEMBER))


def _say_lost(network: Any, suffix: str) -> None:
    """Says what a format can't hold of a network."""
    from keras_resnet.network import pixel_stats_of

    if stats := pixel_stats_of(network):
        mean, std = (", ".join(f"{n:.6g}" for n in numbers) for numbers in stats)
        click.echo(
            f"{suffix} can't hold how pixels are normalized: less {mean}, divided by "
            f"{std}; do it before the network, or convert to .safetensors"
        )
