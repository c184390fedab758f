"""`load`: a source -> splits -> batches."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from keras_resnet.data.augment import Augment, Sampling
from keras_resnet.data.cache import shorter_side
from keras_resnet.data.decoding import Shape
from keras_resnet.data.folder_layout import some
from keras_resnet.data.images import (
    DataError,
    DataWarning,
    Found,
    Images,
    LeftOutWarning,
    Stream,
)
from keras_resnet.data.memory import keep
from keras_resnet.data.normalization import pixel_stats
from keras_resnet.data.options import Options, free_memory
from keras_resnet.data.pipeline import (
    Passes,
    evaluation_batches,
    steps,
    training_batches,
)
from keras_resnet.data.sources import read
from keras_resnet.data.splits import (
    MOST_CONFLICTS,
    count_duplicates,
    digests,
    files_of,
    find_conflicts,
    fingerprint,
    split,
)
from keras_resnet.tasks import units
from keras_resnet.units import count

SIDE = 224  # of images of different sizes, if nothing is asked for
LARGEST = 256  # side that images of one size keep
NAMED = 3  # things in a warning


class Splits(NamedTuple):
    """Data to train on, choose by and judge by.

    The three data sets give batches (uint8 images (batch, height, width, channels),
    int64 labels (batch,)); `train` in a new order every epoch and, if the augmentation
    mixes images, with labels float32 (batch, classes). Where an image has several
    labels or numbers, they are float32 (batch, classes) in all of them.

    Attributes:
        train: augmented if asked.
        val: taken from the training data, to choose the best epoch by.
        test: read only to judge the end result.
        classes: number of classes, labels or numbers.
        image_shape: (height, width, channels).
        class_names: a name for each of them.
        pixel_stats: mean and standard deviation of each channel over the training
            images, in raw pixels; `build` puts them into the model. Of images that
            don't fit into memory, over a seeded sample of 2,048.
        steps: training steps an epoch.
        counts: images in "train", "val" and "test".
        class_counts: of each class or label in these; not known of streams.
        arguments: `load(**arguments)` makes the same splits again; JSON types. None
            if the images were given as arrays.
        fingerprint: of all images and labels, in hexadecimal; of a stream, its name
            and version.
        duplicates: images that an earlier split has too: {"test in train": 3}. They
            are kept. Not known of streams.
        unreadable: images that can't be read, and why; they are left out.
        left_out: what else isn't read of the source, and why.
        notes: what is read in a way that may not be expected.
        passes: which epoch the next pass over `train` is; see `start`.
        files: paths of the images of each split, in the order of validation and test;
            none of what is no file.
        conflicts: pairs of files that are the same image, in two classes; of more
            than 1,000 the first ones.
        crops_from: the shorter side in pixels, at most, of the images in a cache that
            crops are taken from; None: from the files as they are.
        digests: what tells the images of each split from others, 16 bytes each; none
            of streams.
        task: what an image has, as `Recipe.task`.
        target_stats: of a regression, mean and standard deviation of each number over
            the training images; `build` puts them into the model.
    """

    train: Any
    val: Any
    test: Any
    classes: int
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    pixel_stats: tuple[tuple[float, ...], tuple[float, ...]]
    steps: int
    counts: Mapping[str, int]
    class_counts: Mapping[str, tuple[int, ...]]
    arguments: Mapping[str, Any] | None
    fingerprint: str
    duplicates: Mapping[str, int]
    unreadable: tuple[str, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    passes: Passes
    digests: Mapping[str, np.ndarray]
    files: Mapping[str, Sequence[str]]
    conflicts: tuple[tuple[str, str], ...]
    crops_from: int | None = None
    task: str = "classes"
    target_stats: tuple[tuple[float, ...], tuple[float, ...]] | None = None

    def __repr__(self) -> str:
        """What data it is, without each of its images."""
        shape = "x".join(map(str, self.image_shape))
        return (
            f"Splits({self.counts}, {self.classes} classes, images of {shape}, "
            f"task {self.task!r}, fingerprint {self.fingerprint[:8]})"
        )

    @property
    def units(self) -> int:
        """How many numbers a network puts out for an image."""
        return units(self.task, self.classes)

    @property
    def test_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of validation and test images."""
        height, width, channels = self.test.element_spec[0].shape[1:]
        return height, width, channels

    def start(self, epoch: int, step: int = 0) -> None:
        """Makes every pass over `train` from now on this epoch's, from this step on.

        Order and changes follow from seed, epoch and step. Each batch before the step
        comes as a single image, for nothing but its place is wanted; of a stream, the
        images before are read, not decoded.
        Until it is called, passes are counted: the first is epoch 0.
        """
        self.passes.set(epoch, step)

    def take(self, batches: int) -> Splits:
        """The first batches of each split."""
        return self._replace(
            train=self.train.take(batches),
            val=self.val.take(batches),
            test=self.test.take(batches),
            steps=min(self.steps, batches),
        )


def load(
    source: Any,
    *,
    batch_size: int = 128,
    augment: Augment | None = None,
    sampling: Sampling = "uniform",
    seed: int = 0,
    split_seed: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    test_size: int | tuple[int, int] | None = None,
    train_images: int | None = None,
    data_dir: Path | str | None = None,
    download: bool = False,
    strict: bool = False,
    drop_remainder: bool = False,
    memory: int | None = None,
    subfolders: bool | None = None,
    cache: Path | str | None = None,
    console: Console | None = None,
    task: str = "classes",
    label_columns: Sequence[str] | None = None,
) -> Splits:
    """Loads images and splits them by a seed, stratified where labels are known.

    Args:
        source: "digits", "fashion_mnist", "tfds:NAME[:CONFIG]", "folder:PATH",
            "csv:FILE", "tfrecord:FILES", "FILE.npz", (images, labels), {"train":
            (images, labels), "test": ...}, a pandas frame of paths and labels, or a
            `tf.data.Dataset` of images and labels.
        batch_size: images a batch.
        augment: random changes of the training images.
        sampling: "balanced": each class comes as often in an epoch, up to one image;
            "uniform": each image comes once.
        seed: fixes splits, order and augmentation.
        split_seed: fixes the splits instead.
        image_size: height and width of the batches, or both. None keeps the size of
            images that have one, up to 256 pixels, and is else 224.
        test_size: that of validation and test, if it differs (FixRes).
        train_images: at most so many of the training images, by the seed, to learn
            from less; validation and test stay whole.
        data_dir: folder of IDX files for "fashion_mnist", of prepared data sets for
            "tfds:".
        download: whether TFDS may fetch what isn't prepared.
        strict: whether an unreadable image that loading meets is an error.
        drop_remainder: whether the last training batch is left out if it isn't full.
        memory: bytes of images that may be kept decoded; a quarter of the free memory
            if None. What is more, or is cropped at random from larger files, is
            decoded as it is needed.
        subfolders: whether what is below a class' folder is of the class. None takes
            folders of images of the same kind, and leaves out masks and the like.
        cache: folder in which training and validation images are kept, decoded and
            shrunk, and mapped into memory: they are decoded once for all epochs and
            runs. Crops are then taken from what has been shrunk; see `data.cache`.
        console: where progress is shown, if files have to be decoded for the first
            time.
        task: what an image has: one of several "classes"; one of two ("binary"); any
            of several "labels", each 0 or 1; numbers ("regression"). The last two are
            in arrays (images, labels or numbers), CSV files and frames.
        label_columns: of a CSV file or frame, those that hold it; by default what is
            named label, class or the like, and of several labels all that there are.

    Raises:
        DataError: no such source, nothing usable in it, or a wrong argument.
    """
    options = Options(
        batch_size=batch_size,
        augment=Augment() if augment is None else augment,
        sampling=sampling,
        seed=seed,
        split_seed=split_seed,
        image_size=image_size,
        test_size=test_size,
        train_images=train_images,
        data_dir=Path(data_dir).expanduser().absolute() if data_dir else None,
        download=download,
        strict=strict,
        drop_remainder=drop_remainder,
        memory=free_memory() // 4 if memory is None else memory,
        subfolders=subfolders,
        cache=Path(cache).expanduser().absolute() if cache else None,
        console=console,
        task=task,
        label_columns=None if label_columns is None else tuple(label_columns),
    )
    found = read(source, options)
    _check_binary(found, task)
    shape, test_shape = _shapes(found, options)
    parts = split(found, seed if split_seed is None else split_seed, train_images)
    digested = digests(parts)
    paths = files_of(parts)
    conflicts = find_conflicts(parts, digested, paths)
    # Of whatever is decoded at once: normalization must not depend on free memory.
    sampled = isinstance(parts["train"], Stream) or parts["train"].encoded
    files = parts["train"]
    parts = keep(parts, shape, test_shape, options)
    shrunk = isinstance(parts["train"], Images) and parts["train"].ragged
    duplicates = count_duplicates(digested)
    _warn(duplicates, found)
    measured = files if shrunk else parts["train"]
    stats = pixel_stats(measured, shape, seed, sample=sampled)
    passes = Passes()
    classes = len(found.class_names)
    shares = classes if task == "classes" else None
    train = training_batches(parts["train"], passes, shape, stats[0], shares, options)
    val, test = (
        evaluation_batches(parts[name], shape=test_shape, batch_size=batch_size)
        for name in ("val", "test")
    )
    return Splits(
        train=train,
        val=val,
        test=test,
        classes=classes,
        image_shape=shape,
        class_names=found.class_names,
        pixel_stats=stats,
        steps=steps(parts["train"].count, batch_size, drop_remainder),
        counts={name: images.count for name, images in parts.items()},
        class_counts=_class_counts(parts, classes, task),
        arguments=_arguments(source, shape, test_shape, found, options),
        fingerprint=fingerprint(found, parts, digested),
        duplicates=duplicates,
        unreadable=found.unreadable,
        left_out=found.left_out,
        notes=(*found.notes, *_conflict_notes(conflicts)),
        passes=passes,
        digests=digested,
        files=paths,
        conflicts=conflicts,
        crops_from=shorter_side(shape, options.augment) if shrunk else None,
        task=task,
        target_stats=_target_stats(parts["train"]) if task == "regression" else None,
    )


def _check_binary(found: Found, task: str) -> None:
    """Refuses other than two classes where the task is one of two."""
    count = len(found.class_names)
    if task == "binary" and count != 2:
        raise DataError(
            f"task: 'binary' is of two classes, but the data have {count}: "
            f"{some(found.class_names)}; 'classes' takes any number"
        )


def _class_counts(
    parts: Mapping[str, Images | Stream], classes: int, task: str
) -> dict[str, tuple[int, ...]]:
    """Images of each class, or with each label, by split; none of values."""
    found = {}
    for name, images in parts.items():
        if isinstance(images, Stream) or task == "regression":
            continue
        if task == "labels":
            counts = images.labels.sum(axis=0, dtype=np.int64)
        else:
            counts = np.bincount(images.labels, minlength=classes)
        found[name] = tuple(counts.tolist())
    return found


def _target_stats(train: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each number."""
    targets = train.labels.astype(np.float64)
    deviations = targets.std(axis=0)
    deviations[deviations == 0] = 1.0  # of the few that a split left
    return tuple(targets.mean(axis=0).tolist()), tuple(deviations.tolist())


def _arguments(
    source: Any, shape: Shape, test_shape: Shape, found: Found, options: Options
) -> dict[str, Any] | None:
    """What `load` makes the same splits from; None of arrays."""
    if not isinstance(source, str):
        return None
    arguments = {
        "source": absolute(source),
        "seed": options.seed,
        "image_size": list(shape[:2]),
        "test_size": list(test_shape[:2]),
        "train_images": options.train_images,
        "data_dir": options.data_dir and str(options.data_dir),
    }
    if options.split_seed is not None:
        arguments["split_seed"] = options.split_seed
    if options.subfolders is not None:
        arguments["subfolders"] = options.subfolders
    if options.task != "classes":
        arguments["task"] = options.task
    if options.label_columns is not None:
        arguments["label_columns"] = list(options.label_columns)
    if found.version:  # of TFDS: a stream is cut in other places than what fits
        arguments["memory"] = options.memory
    return arguments


def _shapes(found: Found, options: Options) -> tuple[Shape, Shape]:
    """Height, width and channels of training batches and of the others.

    Raises:
        DataError: no size, or the augmentation can't be done at it.
    """
    size = _size("image_size", options.image_size, found)
    test_size = _size("test_size", options.test_size or size, found)
    _check_augment(options.augment, (*size, found.channels))
    return (*size, found.channels), (*test_size, found.channels)


def _check_augment(augment: Augment, shape: Shape) -> None:
    """What can't be done to images of this shape."""
    height, width, channels = shape
    if augment.pad >= min(height, width):
        raise DataError(
            f"augment: pad: {augment.pad} pixels, but the images are {height}x{width}"
        )
    if augment.resize and augment.resize[0] < max(height, width):
        raise DataError(
            f"augment: resize: {list(augment.resize)} is smaller than the crop, "
            f"{height}x{width}"
        )
    if augment.lighting and channels != 3:
        raise DataError("augment: lighting: needs colors, but the images are gray")


def _size(field: str, asked: Any, found: Found) -> tuple[int, int]:
    """Height and width of the batches."""
    if asked is None:
        size = found.size
        return size if size and max(size) <= LARGEST else (SIDE, SIDE)
    sides = tuple(asked) if isinstance(asked, tuple | list) else (asked, asked)
    if len(sides) != 2 or any(type(side) is not int or side < 1 for side in sides):
        raise DataError(f"{field}: {asked!r} is not a number of pixels, or two of them")
    return sides


def absolute(source: str) -> str:
    """A source's name that is right in any working folder."""
    kind, _, path = source.partition(":")
    if kind in ("folder", "csv", "tfrecord"):
        return f"{kind}:{Path(path).expanduser().absolute()}"
    if source.endswith(".npz"):
        return str(Path(source).expanduser().absolute())
    return source


def _conflict_notes(conflicts: Sequence[tuple[str, str]]) -> list[str]:
    more = " or more" if len(conflicts) == MOST_CONFLICTS else ""
    return [
        f"{count(len(conflicts), 'image')}{more} in two classes, such as {one} and "
        f"{other}"
        for one, other in conflicts[:1]
    ]


def _warn(duplicates: Mapping[str, int], found: Found) -> None:
    if duplicates:
        counts = ", ".join(f"{many} of {where}" for where, many in duplicates.items())
        warnings.warn(
            f"data: the same images are in two splits: {counts}; kept",
            DataWarning,
            stacklevel=3,
        )
    messages = []
    if unreadable := found.unreadable:
        named = "; ".join(unreadable[:NAMED])
        lost = count(len(unreadable), "unreadable image")
        messages.append(f"data: {lost} left out: {named}")
    if found.left_out:
        more = len(found.left_out) - NAMED
        named = "; ".join(found.left_out[:NAMED])
        messages.append(
            f"data: not read: {named}" + (f"; and {more} more" if more > 0 else "")
        )
    for message in messages:
        warnings.warn(message, LeftOutWarning, stacklevel=3)
