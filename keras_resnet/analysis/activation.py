"""Where a network looks: feature maps and class activation of one image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.errors import UserError
from keras_resnet.figures import SMALL, bare_figure, short_name, write_figure
from keras_resnet.graphs import flat
from keras_resnet.heads import Head, head_of, read
from keras_resnet.plan import LAST, stage_of

MAPS = 8  # channels of a stage that are drawn


def class_activation(
    model: keras.Model,
    image: np.ndarray,
    *,
    label: int | None = None,
    layer: str | None = None,
    task: str | None = None,
) -> np.ndarray:
    """Grad-CAM (Selvaraju 2017, 1610.02391): where an image looks like a class.

    Args:
        model: a classifier.
        image: (height, width, channels), as the model takes it.
        label: the class; the likeliest if None.
        layer: whose maps are weighted; the last one with maps if None.
        task: what the model does, where its loss doesn't say. Of a regression the maps
            that raise a value are shown, by default the first.

    Returns:
        (height, width) from 0 to 1, of the image's size; all 0 where nothing looks
        like the class.

    Raises:
        UserError: not an image, no such class or layer, or the model is no classifier.
    """
    head = head_of(model, task)
    if label is None and head.task == "regression":
        label = 0
    if label is not None and not 0 <= label < head.classes:
        raise UserError(f"label: {label} is not from 0 to {head.classes - 1}")
    model = flat(model)
    tapped = keras.Model(
        model.inputs[0], [_maps_of(model, layer).output, model.outputs[0]]
    )

    @tf.function(autograph=False)
    def maps_and_gradients(images: Any) -> tuple[Any, Any]:
        maps, outputs = tapped(images, training=False)
        scores = _scores(head, outputs)
        best = tf.argmax(scores) if label is None else label
        [gradient] = tf.gradients(scores[best], maps)
        return maps, gradient

    maps, gradient = maps_and_gradients(_batch(model, image))
    weights = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
    heat = tf.nn.relu(tf.reduce_sum(weights * maps, axis=-1, keepdims=True))
    heat = tf.image.resize(heat, image.shape[:2])[0, :, :, 0].numpy()
    return np.asarray(heat / max(float(heat.max()), 1e-12))


def feature_maps(model: keras.Model, image: np.ndarray, layer: str) -> np.ndarray:
    """A layer's output for an image, (height, width, channels).

    Raises:
        UserError: not an image, or no such layer with maps.
    """
    model = flat(model)
    tapped = keras.Model(model.inputs[0], _maps_of(model, layer).output)
    return np.asarray(tapped(_batch(model, image), training=False)[0])


def _scores(head: Head, outputs: Any) -> Any:
    """Scores of an image's classes, in a graph: logits where there are any.

    A softmax near 1 has no gradient, and its logarithm has none either.
    """
    _, logits = read(outputs)
    if logits is None:
        return tf.math.log(tf.maximum(outputs[0], 1e-30))
    return tf.concat([-logits[0], logits[0]], 0) if head.task == "binary" else logits[0]


def _maps_of(model: keras.Model, name: str | None) -> Any:
    """A layer whose output is maps: by its name, or the last one."""
    found = [
        layer
        for layer in model.layers
        if len(getattr(layer.output, "shape", ())) == 4 and name in (None, layer.name)
    ]
    if not found:
        wanted = f"layer: {name!r} is no" if name else f"model: {model.name} has no"
        raise UserError(f"{wanted} layer with feature maps")
    return found[-1]


def _batch(model: keras.Model, image: np.ndarray) -> Any:
    shape = model.inputs[0].shape[1:]
    fits = image.ndim == 3 and all(
        side in (None, own) for side, own in zip(shape, image.shape, strict=True)
    )
    if not fits:
        raise UserError(
            f"image: {list(image.shape)} is not {list(shape)}, which the model takes"
        )
    return tf.convert_to_tensor(image[None], dtype=tf.float32)


def draw_activation(
    model: keras.Model,
    image: np.ndarray,
    path: Path,
    class_names: Sequence[str] = (),
    *,
    label: int | None = None,
    task: str | None = None,
) -> None:
    """A picture: the image, its class activation, and maps of each stage.

    Args:
        model: a classifier of image pixels from 0 to 255.
        image: (height, width, channels).
        path: a PNG or SVG file.
        class_names: in the order of the model's outputs; their numbers if none.
        label: the class, label or value; the likeliest, or the first value, if None.
        task: what the model does, where its loss doesn't say.
    """
    head = head_of(model, task)
    shares = np.asarray(head.answers(model(_batch(model, image), training=False))[0])
    values = head.task == "regression"
    if label is None:
        label = 0 if values else int(np.argmax(shares))
    named = short_name(class_names[label], 40) if class_names else f"class {label}"
    model = flat(model)
    lasts: dict[str, str] = {}
    for layer in model.layers:
        stage = stage_of(layer.name)
        if stage not in (None, LAST) and len(layer.output.shape) == 4:
            lasts[str(stage)] = layer.name  # the last of each stage
    figure = bare_figure(1.1 * MAPS, 1.2 * len(lasts) + 2.8)
    figures: Any = figure.subfigures(
        len(lasts) + 1, 1, height_ratios=[2.3] + [1] * len(lasts), squeeze=False
    )
    top, *rows = figures[:, 0]
    shown = np.clip(image, 0, 255).astype("uint8").squeeze()
    left, right = top.subplots(1, 2)
    left.imshow(shown, cmap="gray")
    left.set_title("image", fontsize=SMALL)
    right.imshow(shown, cmap="gray")
    heat = class_activation(model, image, label=label, task=task)
    # Clear where nothing looks like the class, so that the image stays bright there.
    drawn = right.imshow(heat, cmap="plasma", alpha=0.7 * heat, vmin=0, vmax=1)
    share = f"{named}: {shares[label]:.4g}"
    if not values:
        share = f"looks like {named}: {shares[label]:.1%}"
    right.set_title(share, fontsize=SMALL)
    scale = top.colorbar(_opaque(drawn), ax=[left, right], shrink=0.8)
    scale.set_label("Grad-CAM, over its greatest", fontsize=SMALL)
    scale.ax.tick_params(labelsize=SMALL)
    grids = [[left, right]]
    for row, name in zip(rows, lasts.values(), strict=True):
        maps = feature_maps(model, image, name)
        of = f"{min(MAPS, maps.shape[-1])} of {maps.shape[-1]} maps"
        row.suptitle(f"{name}: {of}, {maps.shape[0]}x{maps.shape[1]}", fontsize=SMALL)
        grids.append(list(np.atleast_1d(row.subplots(1, MAPS))))
        for channel, axes in zip(range(maps.shape[-1]), grids[-1], strict=False):
            axes.imshow(maps[:, :, channel], cmap="gray")
    for axes in (axes for grid in grids for axes in grid):
        axes.axis("off")
    write_figure(path, figure)


def _opaque(drawn: Any) -> Any:
    """The colors of an image without its transparency, for a scale."""
    from matplotlib.cm import ScalarMappable

    return ScalarMappable(drawn.norm, drawn.cmap)
