"""Data sets of TensorFlow Datasets."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet.data.images import DataError, Found, Images, Stream
from keras_resnet.data.options import Options
from keras_resnet.errors import one_line

# Its splits -> ours; ImageNet's "test" has no labels and so doesn't count.
SPLITS = {"train": ("train",), "val": ("validation", "val"), "test": ("test",)}
SHUFFLED = 10_000  # encoded images of a stream, from which the next one is drawn

Interval = tuple[int, int]


def read_tfds(name: str, options: Options) -> Found:
    """`NAME` or `NAME:CONFIG`, as prepared in `data_dir` or TFDS' own folder.

    What fits in memory is read encoded; larger sets become streams.

    Raises:
        DataError: unknown, not prepared and not to be downloaded, not downloadable,
            or without images and classes.
    """
    builder = _builder(name, options)
    image, label = _features(builder.info.features, name)
    classes = builder.info.features[label]
    parts: dict[str, Images | Stream] = {}
    for split, names in SPLITS.items():
        for each in names:
            if each in builder.info.splits and _labelled(builder, each, image, label):
                parts[split] = _read(builder, each, image, label, options.memory)
    if "train" not in parts:
        raise DataError(
            f"data: tfds:{name} has no split 'train', only "
            f"{', '.join(map(repr, builder.info.splits))}"
        )
    height, width, channels = builder.info.features[image].shape
    return Found(
        train=parts["train"],
        val=parts.get("val"),
        test=parts.get("test"),
        class_names=tuple(classes.names),
        channels=channels or 3,
        size=(height, width) if height and width else None,
        version=str(builder.info.full_name),
    )


def check_tfds(name: str, options: Options) -> None:
    """Refuses what is not prepared and can't be, without TensorFlow.

    Raises:
        DataError: unknown, or not prepared and not to be downloaded.
    """
    _import()
    from tensorflow_datasets.core.utils import file_utils

    folders = file_utils.list_data_dirs(
        given_data_dir=options.data_dir and str(options.data_dir)
    )
    first = name.partition(":")[0]
    there = ("://" in str(each) or Path(each, first).exists() for each in folders)
    if not any(there):
        _check_obtainable(name, options)


def _import() -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(
            f"data: tensorflow_datasets can't be imported: {error}"
        ) from None
    return tfds


def _check_obtainable(name: str, options: Options) -> None:
    """Refuses what isn't prepared, unless it is known and may be downloaded."""
    where = options.data_dir or "TFDS' data folder"
    known = _import().list_builders(with_community_datasets=False)
    if name.partition(":")[0] not in known:
        close = difflib.get_close_matches(name, known, 3)
        raise DataError(
            f"data: tfds:{name} is neither prepared in {where} nor a data set of "
            "tensorflow_datasets" + (f"; there is {', '.join(close)}" if close else "")
        )
    if not options.download:
        raise DataError(
            f"data: tfds:{name} is not prepared in {where}; download=True "
            "(--download) fetches it, data_dir names a folder that has it"
        )


def _builder(name: str, options: Options) -> Any:
    """A prepared builder; downloads only if asked."""
    tfds = _import()
    full_name = name.replace(":", "/", 1)
    data_dir = options.data_dir and str(options.data_dir)
    try:
        # What was prepared can be read without the code that prepared it, offline.
        return tfds.core.read_only_builder.builder_from_files(
            full_name, data_dir=data_dir
        )
    except tfds.core.registered.DatasetNotFoundError:
        pass
    _check_obtainable(name, options)
    try:
        builder = tfds.builder(full_name, data_dir=data_dir)
        builder.download_and_prepare()
    except Exception as error:  # of many libraries: network, disk, checksums, manual
        reason = one_line(error)
        raise DataError(f"data: tfds:{name} can't be prepared: {reason}") from None
    return builder


def _features(features: Any, name: str) -> tuple[str, str]:
    """The names of the first image and the first class label."""
    import tensorflow_datasets as tfds

    found = []
    for kind, what in (
        (tfds.features.Image, "image"),
        (tfds.features.ClassLabel, "class label"),
    ):
        keys = [key for key, value in features.items() if isinstance(value, kind)]
        if not keys:
            raise DataError(
                f"data: tfds:{name} has no {what}, only {', '.join(features)}"
            )
        found.append(what if what in keys else keys[0])
    return found[0], found[1]


def _examples(
    builder: Any,
    split: str,
    image: str,
    label: str,
    parts: Sequence[Interval],
    seed: int | None,
) -> Any:
    """Encoded images and labels of some intervals of a split."""
    import tensorflow_datasets as tfds

    instruction = "+".join(f"{split}[{start}:{stop}]" for start, stop in parts)
    shuffled = seed is not None
    dataset = builder.as_dataset(
        split=instruction,
        shuffle_files=shuffled,
        decoders={image: tfds.decode.SkipDecoding()},
        read_config=tfds.ReadConfig(
            shuffle_seed=seed,
            shuffle_reshuffle_each_iteration=False,  # the seed is the epoch's
            try_autocache=False,
        ),
    ).map(lambda example: (example[image], example[label]))
    if not shuffled:
        return dataset
    return dataset.shuffle(SHUFFLED, seed=seed, reshuffle_each_iteration=False)


def _labelled(builder: Any, split: str, image: str, label: str) -> bool:
    """Whether the split has images, with a class each."""
    if not builder.info.splits[split].num_examples:
        return False
    first = _examples(builder, split, image, label, [(0, 1)], None)
    return all(int(label) >= 0 for _, label in first.as_numpy_iterator())


def _read(
    builder: Any, split: str, image: str, label: str, memory: int
) -> Images | Stream:
    count = builder.info.splits[split].num_examples
    if builder.info.splits[split].num_bytes > memory:
        return _stream(builder, split, image, label, [(0, count)])
    examples = _examples(builder, split, image, label, [(0, count)], None)
    pixels, labels = zip(*examples.as_numpy_iterator(), strict=True)
    return Images(pixels, np.array(labels, np.int64))


def _stream(
    builder: Any, split: str, image: str, label: str, parts: Sequence[Interval]
) -> Stream:
    count = sum(stop - start for start, stop in parts)
    return Stream(
        examples=lambda seed: _examples(builder, split, image, label, parts, seed),
        part=lambda start, stop: _stream(
            builder,
            split,
            image,
            label,
            cut(parts, start, stop),
        ),
        count=count,
    )


def cut(parts: Sequence[Interval], start: int, stop: int) -> list[Interval]:
    """Positions `start` to `stop` of intervals laid end to end in a ring."""
    count = sum(high - low for low, high in parts)
    found: list[Interval] = []
    for turn in (0, count):
        before = turn
        for low, high in parts:
            first = max(low, low + start - before)
            last = min(high, low + stop - before)
            if first < last:
                found.append((first, last))
            before += high - low
    return found
