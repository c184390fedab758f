"""convert: weights from one library's file to another's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from keras_resnet import runtime
from keras_resnet.cli import options
from keras_resnet.cli.group import main
from keras_resnet.errors import UserError


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
    spec = options.spec_from(model, spec_file)
    changes: dict[str, Any] = {}
    if output_stride:
        changes["output_stride"] = int(output_stride)
    runtime.prepare()
    from keras_resnet import files, weights
    from keras_resnet.network import build
    from keras_resnet.weights import origins
    from keras_resnet.weights.channels import adapted_stats

    found = origins.find(source)
    stats = None
    if spec is None and found.run:
        spec = found.spec
        stats = adapted_stats(found.run.data["pixel_stats"], channels)
    if spec is None and found.described:
        side = image_size or found.described.size
        network = weights.pretrained(
            source, classes=classes, input_shape=(side, side, channels or 3), **changes
        )
    elif spec is None:
        raise UserError(
            f"model: {source} doesn't name its network; name a preset by --model, or "
            "give --spec"
        )
    else:
        network = build(
            spec,
            input_shape=spec.image_shape(image_size, channels),
            classes=classes,
            pixel_stats=stats,
            **changes,
        )
        weights.load(
            network,
            source,
            head=classes in (None, spec.classes),
            adapt_channels=channels is not None,
            key=key,
        )
    if target.suffix in (".safetensors", ".pth"):
        weights.save(network, target, dialect=dialect)
    else:
        write = network.save if target.suffix == ".keras" else network.save_weights
        with files.replacing(target) as temporary:
            write(temporary)
    click.echo(f"{target}: {network.name}, {network.count_params():,} parameters")
