"""Examples that TensorFlow reads: a `tf.data.Dataset`, or TFRecord files.

Both are read whole, encoded images as they are: a data set without random access can
neither be split by class nor entered in the middle, and its images have no names. What
doesn't fit into the memory that `load` may use is refused.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from keras_resnet.data.folder_layout import some, split_of
from keras_resnet.data.image_files import examine
from keras_resnet.data.images import DataError, Found, Images
from keras_resnet.data.options import Options
from keras_resnet.errors import one_line
from keras_resnet.limits import check_regular

# What a tf.Example holds -> the names that it goes by.
FEATURES = {
    "image": ("image", "image/encoded", "image_raw", "image_bytes", "jpeg", "png"),
    "label": ("label", "image/class/label", "class", "target", "labels"),
    "name": ("image/class/text", "class_name", "label_name"),
}


def read_dataset(dataset: Any, options: Options) -> Found:
    """Pairs of an image, uint8 or the content of a file, and an integer label.

    Raises:
        DataError: other elements, no end, or more than the memory holds.
    """
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) != 2:
        raise DataError(f"data: a tf.data.Dataset of {spec} is not one of image, label")
    if int(dataset.cardinality()) == -1:
        raise DataError("data: the tf.data.Dataset has no end; take(n) gives it one")
    if spec[1].shape.rank == 1:
        dataset = dataset.unbatch()
    pixels: list[Any] = []
    labels = []
    for image, label in _within(dataset.as_numpy_iterator(), options.memory):
        pixels.append(image)
        labels.append(label)
    if not pixels:
        raise DataError("data: the tf.data.Dataset is empty")
    if isinstance(pixels[0], bytes):
        return _found({"train": (pixels, labels)}, {}, "the tf.data.Dataset")
    from keras_resnet.data.arrays import read_given

    if len({image.shape for image in pixels}) > 1:
        raise DataError(
            "data: the tf.data.Dataset has images of several sizes; resize them, or "
            "give encoded ones"
        )
    return read_given((np.stack(pixels), np.array(labels)))


def read_tfrecord(pattern: str, options: Options) -> Found:
    """Files of tf.Example with an encoded image and a label; splits by their names.

    Raises:
        DataError: no such file, other features, or more than the memory holds.
    """
    paths = sorted(glob.glob(os.path.expanduser(pattern)))
    if not paths:
        raise DataError(f"data: no file fits {pattern}")
    size = sum(map(os.path.getsize, paths))
    if size > options.memory:
        _refuse_size(pattern, options.memory)
    parts: dict[str, tuple[list[Any], list[Any]]] = {}
    texts: dict[Any, str] = {}
    for path in paths:
        word = os.path.basename(path).partition(".")[0].partition("-")[0]
        split = split_of(word) or "train"
        images, labels = parts.setdefault(split, ([], []))
        for example in _examples(path):
            names = _features(example, path)
            image, label = (_value(example[names[kind]]) for kind in ("image", "label"))
            if not isinstance(image, bytes):
                raise DataError(
                    f"data: {path} has no encoded image in {names['image']}"
                )
            images.append(image)
            labels.append(label)
            if "name" in names:
                text = _value(example[names["name"]])
                texts[label] = _text(label if text is None else text)
    return _found(parts, texts, pattern)


def _examples(path: str) -> Iterator[Mapping[str, Any]]:
    import tensorflow as tf

    record = None
    try:
        check_regular(path)
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            yield tf.train.Example.FromString(record).features.feature
        if record is None:  # TensorFlow takes a few bytes of anything for the end
            raise DataError(f"data: can't read {path}: it holds no record")
    except DataError:
        raise
    except Exception as error:  # of TensorFlow and of protobuf
        raise DataError(f"data: can't read {path}: {one_line(error)}") from None


def _features(example: Mapping[str, Any], path: str) -> dict[str, str]:
    found = {
        kind: next(name for name in names if name in example)
        for kind, names in FEATURES.items()
        if any(name in example for name in names)
    }
    for kind in ("image", "label"):
        if kind not in found:
            raise DataError(
                f"data: {path} has no feature for the {kind}, only "
                f"{some(sorted(example))}; call it {' or '.join(FEATURES[kind][:2])}"
            )
    return found


def _value(feature: Any) -> Any:
    """The one value of a feature: an integer or bytes."""
    values = feature.int64_list.value or feature.bytes_list.value
    return values[0] if len(values) == 1 else None


def _text(value: Any) -> str:
    if isinstance(value, bytes):  # what isn't UTF-8 is no name of a class
        return value.decode(errors="surrogateescape")
    return str(value)


def _within(pairs: Iterator[Any], memory: int) -> Iterator[Any]:
    """Pairs, as long as their images fit into memory."""
    total = 0
    for image, label in pairs:
        total += len(image) if isinstance(image, bytes) else image.nbytes
        if total > memory:
            _refuse_size("the tf.data.Dataset", memory)
        yield image, label


def _refuse_size(name: str, memory: int) -> None:
    raise DataError(
        f"data: {name} doesn't fit into the {memory:,} bytes that may be used, and "
        "can't be split or resumed unless it does; raise memory, or write a folder of "
        "images"
    )


def _found(
    parts: Mapping[str, tuple[list[Any], list[Any]]],
    texts: Mapping[Any, str],
    name: str,
) -> Found:
    """What encoded images and their labels are."""
    every = {label for _, labels in parts.values() for label in labels}
    if None in every or not all(isinstance(x, int | np.integer | bytes) for x in every):
        raise DataError(f"data: {name} has an example without one label")
    if len({isinstance(label, bytes) for label in every}) > 1:
        raise DataError(f"data: {name} has labels that are numbers, and others texts")
    numbers = {label: i for i, label in enumerate(sorted(every))}
    if len(numbers) < 2 or "train" not in parts:
        raise DataError(f"data: {name} has no training images of two classes or more")
    images, unreadable, headers = {}, [], []
    for split, (pixels, labels) in parts.items():
        kept = []
        for i, content in enumerate(pixels):
            try:
                headers.append(examine(content, f"{i} of {split}"))
                kept.append(i)
            except DataError as error:
                unreadable.append(str(error))
        chosen = np.array([numbers[labels[i]] for i in kept], np.int64)
        images[split] = Images([pixels[i] for i in kept], chosen)
    sizes = {header.size for header in headers}
    plain = {label: _text(label) for label in numbers}
    return Found(
        train=images["train"],
        val=images.get("val"),
        test=images.get("test"),
        class_names=tuple(texts.get(label, plain[label]) for label in numbers),
        channels=1 if all(header.gray for header in headers) else 3,
        size=sizes.pop() if len(sizes) == 1 else None,
        unreadable=tuple(unreadable),
    )
