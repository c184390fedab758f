"""Images given as arrays, in Python or in a `.npz` file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.data import targets
from keras_resnet.data.images import DataError, Found, Images
from keras_resnet.data.options import Options
from keras_resnet.files import open_npz, reading
from keras_resnet.tasks import has_classes
from keras_resnet.units import count

SPLITS = ("train", "val", "test")
_KEYS = {f"{kind}_{split}" for kind in "xy" for split in SPLITS}
_KEYS |= {"images", "labels", "class_names"}
_FORMS = "(images, labels) or {'train': (images, labels), 'test': ...}"


def read_given(source: Any, task: str = "classes") -> Found:
    """A pair of arrays, or a dictionary of pairs by split.

    Args:
        source: (images, labels), or {"train": (images, labels)} with "val", "test"
            and "class_names" where there are some. Images are uint8 (n, height,
            width) or (n, height, width, channels), labels integers (n,) or (n, 1), or
            what `targets.from_array` takes.
        task: what the labels are.

    Raises:
        DataError: anything else.
    """
    if isinstance(source, tuple) and len(source) == 2:
        source = {"train": source}
    if not isinstance(source, Mapping):
        raise DataError(f"data: {type(source).__name__} is neither a name nor {_FORMS}")
    unknown = sorted(str(key) for key in source if key not in (*SPLITS, "class_names"))
    if unknown or "train" not in source:
        what = f"{unknown[0]} is no split" if unknown else "'train' is missing"
        raise DataError(f"data: {what}; give {_FORMS}")
    parts = {}
    for split in SPLITS:
        pair = source.get(split)
        if pair is None:
            continue
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise DataError(f"data: {split} is not a pair of images and labels")
        pixels, labels = pair
        parts[split] = _images(split, pixels, labels, task)
    names = source.get("class_names")
    if names is not None:
        names = _texts(names)
    if has_classes(task):
        names = _class_names(parts["train"], names)
        _check_labels(parts, names)
    else:
        names = targets.names_of(task, names, parts["train"].labels.shape[1])
        targets.check_spread(task, parts["train"].labels, names)
    shapes = {split: images.pixels.shape[1:] for split, images in parts.items()}  # type: ignore[union-attr]
    for split, shape in shapes.items():
        if shape != shapes["train"]:
            raise DataError(
                f"data: {split} has images of shape {shape}, train {shapes['train']}"
            )
        if parts[split].labels.shape[1:] != parts["train"].labels.shape[1:]:
            raise DataError(
                f"data: {split} has labels of shape {parts[split].labels.shape}, train "
                f"{parts['train'].labels.shape}"
            )
    height, width, channels = shapes["train"]
    return Found(
        train=parts["train"],
        val=parts.get("val"),
        test=parts.get("test"),
        class_names=names,
        channels=channels,
        size=(height, width),
    )


def read_npz(path: str, options: Options) -> Found:
    """A file of arrays: `x_train, y_train` as Keras writes them, or `images, labels`.

    `x_val, y_val, x_test, y_test` and `class_names` may be there too.

    Raises:
        DataError: no such file, other keys, or arrays that `read_given` refuses.
    """
    file = Path(path).expanduser()
    try:
        with reading(), open_npz(file) as arrays:
            content = {name: arrays[name] for name in arrays if name in _KEYS}
            names = ", ".join(arrays)
    except ValueError as error:
        raise DataError(f"data: can't read {file}: {error}") from None
    if "images" in content and "labels" in content:
        content = {"x_train": content.pop("images"), "y_train": content.pop("labels")}
    given: dict[str, Any] = {}
    for split in SPLITS:
        pair = (f"x_{split}", f"y_{split}")
        present = [key for key in pair if key in content]
        if present == list(pair):
            given[split] = tuple(content[key] for key in pair)
        elif present or split == "train":
            missing = [key for key in pair if key not in content]
            raise DataError(
                f"data: {file} has no {missing[0]}, only {names}; "
                "it needs x_train and y_train, or images and labels"
            )
    if "class_names" in content:
        given["class_names"] = content["class_names"].tolist()
    return read_given(given, options.task)


def _images(split: str, pixels: Any, labels: Any, task: str) -> Images:
    pixels, labels = np.asarray(pixels), np.asarray(labels)
    if pixels.ndim == 3:
        pixels = pixels[..., np.newaxis]
    if pixels.ndim != 4 or 0 in pixels.shape:
        raise DataError(
            f"data: {split} has images of shape {pixels.shape}, not (n, height, width) "
            "or (n, height, width, channels)"
        )
    if pixels.dtype != np.uint8:
        raise DataError(
            f"data: {split} has images of {pixels.dtype}, not uint8 from 0 to 255; the "
            "model normalizes them itself"
        )
    if not has_classes(task):
        labels = targets.from_array(task, labels, split)
    elif labels.ndim == 2 and labels.shape[1] == 1:  # as Keras loads CIFAR
        labels = labels[:, 0]
    if has_classes(task) and (
        labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer)
    ):
        raise DataError(
            f"data: {split} has labels of {labels.dtype} and shape {labels.shape}, not "
            "an integer for each image, as task 'classes' needs (a recipe's task may "
            "be 'labels' or 'regression')"
        )
    if len(labels) != len(pixels):
        raise DataError(
            f"data: {split} has {count(len(pixels), 'image')}, but "
            f"{count(len(labels), 'label')}"
        )
    return Images(pixels, labels.astype(np.int64) if has_classes(task) else labels)


def _texts(names: Any) -> tuple[str, ...]:
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise DataError(f"data: class_names are {names!r}, not a list of names")
    return tuple(
        name.decode(errors="surrogateescape") if isinstance(name, bytes) else str(name)
        for name in names
    )


def _class_names(train: Images, names: tuple[str, ...] | None) -> tuple[str, ...]:
    """As given, or the numbers of the classes."""
    highest = int(train.labels.max())
    if highest >= train.count:
        raise DataError(
            f"data: train has label {highest} and {train.count} images; number the "
            "classes from 0 without gaps"
        )
    return tuple(map(str, range(highest + 1))) if names is None else names


def _check_labels(parts: Mapping[str, Images], names: tuple[str, ...]) -> None:
    for split, images in parts.items():
        wrong = images.labels[(images.labels < 0) | (images.labels >= len(names))]
        if wrong.size:
            raise DataError(
                f"data: {split} has label {wrong[0]}; there are {len(names)} classes, "
                f"from 0 to {len(names) - 1}"
            )
    counts = np.bincount(parts["train"].labels, minlength=len(names))
    if len(names) < 2:
        raise DataError("data: train has one class; a classifier needs two or more")
    if not counts.all():
        missing = int(np.argmin(counts))
        raise DataError(
            f"data: class {missing} ({names[missing]}) has no training images; number "
            "the classes from 0 without gaps"
        )
