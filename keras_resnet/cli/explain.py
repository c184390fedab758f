"""What goes on in a trained network: explain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keras_resnet import runtime
from keras_resnet.cli import options
from keras_resnet.cli.group import main
from keras_resnet.cli.output import (
    print_classes,
    warnings_as_lines,
)
from keras_resnet.errors import UserError

if TYPE_CHECKING:
    from keras_resnet.run import Run


@main.command()
@click.argument("run", type=options.PATH)
@click.option("--out", type=options.PATH, help="Folder; RUN/explained.")
@options.same_data
@click.option(
    "--image",
    type=options.PATH,
    help="Draw where it looks in this one, or in those of a folder or pattern.",
)
@click.option(
    "--label",
    help="Class, label or value to draw of the image; by default the likeliest, or "
    "the first value.",
)
@click.option(
    "--batches", default=8, type=click.IntRange(1), show_default=True,
    help="Of test images.",
)  # fmt: skip
def explain(
    run: Path, out: Path | None, data: str | None, image: Path | None,
    label: str | None, batches: int,
) -> None:  # fmt: skip
    """Draw what goes on in a run's network: responses, gradients, shortcuts, lesions.

    The standard deviation of each layer's response (Figure 7 of He 2015), gradients by
    depth, the share of the signal on each shortcut, the error without each unit, the
    gates' openness, all on the run's test images. With --image also feature maps and
    the class activation (Grad-CAM) of that image, for which the model is enough: RUN
    may be a .keras file, or a run whose data is gone.

    Example: keras-resnet explain runs/demo --image runs/demo/samples/0-is-3.png
    """
    from keras_resnet import files
    from keras_resnet.data.inputs import list_images, why_none
    from keras_resnet.run import Run

    with warnings_as_lines():
        images = list_images([image]) if image else []
    if lost := why_none(images):
        raise lost[0][1]
    opened = None if run.suffix == ".keras" and not run.is_dir() else Run(run)
    if opened:
        opened.check_trained()
    elif not image:
        raise UserError(
            f"run: {run} is a model without its data; name a run folder, or an image "
            "by --image"
        )
    elif not run.exists():
        raise UserError(f"run: file {run} doesn't exist")
    if opened and (data or not image):
        opened.check_data(data)
    out = out or (run if opened else run.parent) / "explained"
    files.check_folder(out, "out")
    names = opened.data["class_names"] if opened else []
    task = opened.recipe.task if opened else None
    drawn = _place_of(label, names, image)
    runtime.prepare()
    from keras_resnet.analysis import explaining
    from keras_resnet.analysis.models import load_model

    with warnings_as_lines():
        model = load_model(run)
    paths = []
    failed: list[tuple[Path, UserError]] = []
    try:
        if opened:
            test = _test_images(opened, data, batches, needed=not image)
            paths += explaining.explain(model, test, out, task) if test else []
        for each in images:
            suffix = f"-{each.stem}" if len(images) > 1 else ""
            path = out / f"activation{suffix}.png"
            try:
                paths.append(_draw_of_image(model, each, path, names, drawn, task))
            except UserError as error:
                if len(images) == 1:
                    raise
                failed.append((each, error))
    except OSError as error:
        raise UserError(f"out: can't write to {out}: {error.strerror}") from None
    for path in paths:
        click.echo(path)
    print_classes([], failed, as_json=False)


def _test_images(run: Run, source: str | None, batches: int, needed: bool) -> Any:
    """Batches of a run's test images; none where its data is gone but not needed."""
    import keras

    try:
        with warnings_as_lines():
            splits = run.load_splits(**({"source": source} if source else {}))
    except UserError as error:
        if needed or source:
            raise
        click.echo(f"only the image is drawn: {error}", err=True)
        return []
    # For the weights before training.
    keras.utils.set_random_seed(run.data["arguments"]["seed"])
    return list(splits.test.take(batches).as_numpy_iterator())


def _place_of(label: str | None, names: list[str], image: Path | None) -> int | None:
    """Which output is drawn; None if that isn't said."""
    if label is None:
        return None
    if not image:
        raise UserError("label: is drawn of an image; name one by --image")
    if label not in names:
        known = ", ".join(names[:10]) or "no names"
        raise UserError(f"label: {label!r} is not one of the run's: {known}")
    return names.index(label)


def _draw_of_image(
    model: Any,
    image: Path,
    path: Path,
    class_names: Any,
    label: int | None,
    task: str | None,
) -> Path:
    """Draws where a model looks in an image."""
    from keras_resnet.analysis.activation import draw_activation
    from keras_resnet.data.image_files import CENTRAL, read_image

    shape = model.inputs[0].shape[1:]
    if len(shape) != 3:
        raise UserError(f"run: {model.name} takes no images, but {list(shape)}")
    pixels = read_image(image, shape, CENTRAL)
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings_as_lines():
        draw_activation(model, pixels, path, class_names, label=label, task=task)
    return path
