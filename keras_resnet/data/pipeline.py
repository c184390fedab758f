"""Images -> batches: shuffled, decoded, augmented, mixed and prefetched.

Everything random in an epoch comes from the seed and the epoch's number: the order,
and with the batch's place what happens to its images. So an epoch can be entered at
any of its batches.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_resnet.data.augment import Augment
from keras_resnet.data.decoding import AS_THEY_ARE, Shape, make_batch
from keras_resnet.data.images import DataError, Images, Stream
from keras_resnet.data.mixing import draw_mix, mix_images, mix_labels
from keras_resnet.data.options import Options
from keras_resnet.data.transforms import draw_all


class Passes:
    """Which epoch a pass over the training images is, and the step that it begins at.

    Counts the passes that it is asked for, until one is set.
    """

    def __init__(self) -> None:
        self._counted = itertools.count()
        self._set: tuple[int, int] | None = None

    def set(self, epoch: int, step: int = 0) -> None:
        """From now on a pass is this epoch's, from this step on; both from 0."""
        self._set = epoch, step

    def next(self) -> tuple[int, int]:
        """Epoch and first step of a pass that begins now."""
        return self._set or (next(self._counted), 0)


def training_batches(
    images: Images | Stream,
    passes: Passes,
    shape: Shape,
    fill: Sequence[float],
    classes: int | None,
    options: Options,
) -> Any:
    """Batches in a new order every epoch, changed at random.

    A pass that begins at a later step has as many batches as any: each of those before
    it is a single image, which costs next to nothing.

    Args:
        images: arrays of `shape`, or encoded ones of any.
        passes: says which epoch comes.
        shape: height, width, channels of the batches.
        fill: the mean pixel.
        classes: number of classes, whose shares mixed images have; None: labels are
            numbers, and are mixed themselves.
        options: batch size, seed, augmentation, sampling, and whether a last batch
            that isn't full is left out.

    Raises:
        DataError: a stream is to be sampled by its classes, which aren't known.
    """
    augment = options.augment
    if options.sampling != "uniform" and isinstance(images, Stream):
        raise DataError(
            f"sampling: {options.sampling!r} needs the classes of all images, which of "
            "what doesn't fit into memory, a stream, aren't known"
        )
    batches = steps(images.count, options.batch_size, options.drop_remainder)
    fetch = _fetcher(images, shape, augment, fill)

    def begin() -> np.ndarray:
        return np.array([options.seed, *passes.next()], np.int64)

    def contents(begun: Any) -> Any:
        """What the batches are made of, and their seeds."""
        content = _content(images, begun, options)
        seeds = tf.data.Dataset.range(batches).map(
            lambda step: tf.random.fold_in(begun[:2], step)
        )
        return tf.data.Dataset.zip(content, seeds)

    def batch(content: Any, seed: Any) -> tuple[Any, Any]:
        count = tf.shape(content[0])[0]
        drawn = draw_all(augment, tf.random.fold_in(seed, 1), count)
        if not augment.mixes:
            return fetch(content, drawn)
        mixing = draw_mix(tf.random.fold_in(seed, 2), augment, *shape[:2])
        pixels, labels = fetch(content, [*drawn, mixing])
        return pixels, mix_labels(labels, mixing, classes)

    begun = tf.data.Dataset.from_tensors(0).map(
        lambda _: tf.ensure_shape(tf.numpy_function(begin, [], tf.int64), [3])
    )
    dataset = begun.flat_map(tf.autograph.experimental.do_not_convert(contents)).map(
        # No branch depends on a tensor: traced as it stands, which is faster.
        tf.autograph.experimental.do_not_convert(batch),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return _finished(dataset, batches)


def _content(images: Images | Stream, begun: Any, options: Options) -> Any:
    """The indices of each batch's images, or what a stream brings.

    Args:
        images: what the batches are made of.
        begun: int (3,): seed, epoch and first step.
        options: batch size, sampling, and whether a last batch that isn't full is
            left out.
    """
    epoch, first = begun[:2], begun[2]
    drop, batch_size = options.drop_remainder, options.batch_size
    if isinstance(images, Images):
        order = _order(images, epoch, options)
        one = tf.data.Dataset.from_tensor_slices((order[:1],))
        rest = tf.data.Dataset.from_tensor_slices((order[first * batch_size :],))
        skipped = one.batch(1).repeat(first)
        return skipped.concatenate(rest.batch(batch_size, drop_remainder=drop))
    examples = images.examples

    def streamed(begun: np.ndarray) -> Iterator[Any]:
        """TFDS takes the seed of its order as a Python number only."""
        for _ in range(begun[2]):
            yield from examples(None).batch(1).take(1).as_numpy_iterator()
        [mixed] = np.random.SeedSequence(begun[:2].tolist()).generate_state(1)
        rest = examples(int(mixed)).batch(batch_size, drop_remainder=drop)
        yield from rest.skip(begun[2]).as_numpy_iterator()

    signature = (tf.TensorSpec([None], tf.string), tf.TensorSpec([None], tf.int64))
    return tf.data.Dataset.from_generator(
        streamed, args=(begun,), output_signature=signature
    )


def evaluation_batches(
    images: Images | Stream, *, shape: Shape, batch_size: int
) -> Any:
    """Batches in a fixed order, unchanged; encoded images are decoded anew each time.

    The last batch is at least half full: under a tf.distribute strategy each replica
    needs an image. Batches are smaller than `batch_size` for it.
    """
    count = images.count
    batch_size = next(
        size for size in range(batch_size, 0, -1) if (count - 1) % size + 1 >= size / 2
    )
    if isinstance(images, Stream):
        content = images.examples(None)
    else:
        content = tf.data.Dataset.from_tensor_slices((np.arange(images.count),))
    fetch = _fetcher(images, shape, AS_THEY_ARE, ())
    dataset = content.batch(batch_size).map(
        lambda *content: fetch(content, []), num_parallel_calls=tf.data.AUTOTUNE
    )
    return _finished(dataset, steps(images.count, batch_size, False))


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """What goes wrong with an image in a pipeline is a DataError, as elsewhere."""
    try:
        yield
    except tf.errors.OpError as error:
        match = re.search(r"DataError: (.*)", error.message)
        if match is None:
            raise
        raise DataError(match[1]) from None


def steps(count: int, batch_size: int, drop_remainder: bool) -> int:
    """Batches an epoch."""
    return count // batch_size if drop_remainder else -(-count // batch_size)


def _order(images: Images, epoch: Any, options: Options) -> Any:
    if options.sampling == "balanced":
        drawn = tf.numpy_function(
            lambda epoch: draw_balanced(images.labels, epoch.tolist()),
            [epoch],
            tf.int64,
        )
        return tf.ensure_shape(drawn, [images.count])
    indices = tf.range(images.count, dtype=tf.int64)
    return tf.random.experimental.stateless_shuffle(indices, seed=epoch)


def draw_balanced(labels: np.ndarray, seed: Any) -> np.ndarray:
    """Which images come, in random order: of each class as many, up to one.

    As many as there are. On the average an image comes n / (k * m) times, of n images
    in k classes, m of them in its own.
    """
    random = np.random.default_rng(seed)
    classes = random.permutation(np.unique(labels))
    shares = np.array_split(np.arange(len(labels)), len(classes))
    drawn = [
        np.resize(random.permutation(np.flatnonzero(labels == label)), len(share))
        for label, share in zip(classes, shares, strict=True)
    ]
    return random.permutation(np.concatenate(drawn))


def _fetcher(
    images: Images | Stream, shape: Shape, augment: Augment, fill: Sequence[float]
) -> Callable[[Any, Any], tuple[Any, Any]]:
    """What makes images and labels of a batch's content and of what is drawn for it.

    The content is indices, or what a stream brings: encoded images and labels. Drawn is
    what `augment` asks for and, where it mixes, how.
    """

    def read(content: Sequence[np.ndarray], drawn: Sequence[np.ndarray]) -> Any:
        if isinstance(images, Stream):
            chosen = Images(list(content[0]), content[1])
        else:
            chosen = images.take(content[0])
        of_each = drawn[:-1] if augment.mixes else drawn
        pixels = make_batch(chosen.pixels, shape, augment, of_each, fill)
        if augment.mixes:
            pixels = mix_images(pixels, drawn[-1])
        return pixels, chosen.labels

    dtype, shape_of_one = np.dtype(np.int64), ()
    if isinstance(images, Images):
        dtype, shape_of_one = images.labels.dtype, images.labels.shape[1:]

    def fetch(content: Any, drawn: Any) -> tuple[Any, Any]:
        size = len(content)
        pixels, labels = tf.numpy_function(
            lambda *given: read(given[:size], given[size:]),
            [*content, *drawn],
            [tf.uint8, tf.as_dtype(dtype)],
        )
        labels = tf.ensure_shape(labels, [None, *shape_of_one])
        return tf.ensure_shape(pixels, [None, *shape]), labels

    return fetch


def _finished(dataset: Any, batches: int) -> Any:
    options = tf.data.Options()
    # tf.data's tuner would wait for the time that a clock is set back, and at an
    # epoch's end for its own next turn; maps have a thread a core without it.
    options.autotune.enabled = False
    # Under a tf.distribute strategy of several workers each takes every n-th batch.
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(batches))
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)
