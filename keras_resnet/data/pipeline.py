"""Source -> splits -> batches, cached, shuffled, augmented and prefetched."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_resnet.data.augment import augment_batch
from keras_resnet.data.settings import Augment
from keras_resnet.data.sources import DataError, read

TEST_SHARE = 0.2  # 360 of the digits
VAL_SHARE = 0.08  # 144 of the digits


class Splits(NamedTuple):
    """Data to train on, choose by and judge by.

    The three data sets give batches (uint8 images (batch, height, width, channels),
    int64 labels (batch,)); `train` in a new order every epoch.

    Attributes:
        train: augmented if asked.
        val: taken from the training data, to choose the best epoch by.
        test: read only to judge the end result.
        classes: number of classes.
        image_shape: (height, width, channels).
        class_names: a name for each label.
        pixel_stats: mean and standard deviation of each channel over the training
            images, in raw pixels; `build` puts them into the model.
    """

    train: Any
    val: Any
    test: Any
    classes: int
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    pixel_stats: tuple[tuple[float, ...], tuple[float, ...]]

    @property
    def steps(self) -> int:
        """Training steps an epoch."""
        return int(self.train.cardinality())


def load(
    source: str, *, batch_size: int = 128, augment: Augment | None = None, seed: int = 0
) -> Splits:
    """Loads images and splits them by a seed, stratified by label.

    Args:
        source: "digits", scikit-learn's 1,797 scans of 8x8 pixels.
        batch_size: images a batch.
        augment: random changes of the training images.
        seed: fixes splits, order and augmentation.

    Raises:
        DataError: no such source, or a wrong size or seed.
    """
    from sklearn.model_selection import train_test_split

    if type(batch_size) is not int or batch_size < 1:
        raise DataError(f"batch_size: {batch_size!r} is not a positive integer")
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise DataError(f"seed: {seed!r} is not an integer from 0 to 2**32 - 1")
    if augment is not None and not isinstance(augment, Augment):
        raise DataError(f"augment: {augment!r} is not an Augment(pad=, flip=)")
    images, labels, class_names = read(source)
    rest, test = train_test_split(
        np.arange(len(labels)), test_size=TEST_SHARE, stratify=labels, random_state=seed
    )
    train, val = train_test_split(
        rest,
        test_size=round(VAL_SHARE * len(labels)),
        stratify=labels[rest],
        random_state=seed,
    )
    mean, std = _pixel_stats(images[train])
    return Splits(
        train=_training(images[train], labels[train], batch_size, augment, seed, mean),
        val=_batches(images[val], labels[val], batch_size),
        test=_batches(images[test], labels[test], batch_size),
        classes=len(class_names),
        image_shape=images.shape[1:],
        class_names=class_names,
        pixel_stats=(mean, std),
    )


def _pixel_stats(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel."""
    mean = images.mean(axis=(0, 1, 2), dtype=np.float64)
    std = images.std(axis=(0, 1, 2), dtype=np.float64)
    return tuple(mean.tolist()), tuple(np.maximum(std, 1.0).tolist())


def _batches(images: np.ndarray, labels: np.ndarray, batch_size: int) -> Any:
    dataset = tf.data.Dataset.from_tensor_slices((images, labels))
    return dataset.batch(batch_size).cache().prefetch(tf.data.AUTOTUNE)


def _training(
    images: np.ndarray,
    labels: np.ndarray,
    batch_size: int,
    augment: Augment | None,
    seed: int,
    fill: tuple[float, ...],
) -> Any:
    dataset = tf.data.Dataset.from_tensor_slices((images, labels))
    dataset = dataset.shuffle(len(labels), seed=seed).batch(batch_size)
    if augment not in (None, Augment()):
        seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True)
        dataset = tf.data.Dataset.zip(dataset, seeds.batch(2)).map(
            lambda batch, seed: (
                augment_batch(batch[0], seed, augment, fill),
                batch[1],
            ),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    return dataset.prefetch(tf.data.AUTOTUNE)
