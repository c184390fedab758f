from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from images import noise

from keras_resnet.data import Augment
from keras_resnet.data.mixing import draw_mix, mix_images, mix_labels

IMAGES = noise(6, (20, 16, 3))
LABELS = np.array([0, 1, 2, 3, 1, 0])
FIRST, SECOND = np.eye(4)[LABELS], np.eye(4)[np.roll(LABELS, 1)]

MIXUP, CUTMIX = Augment(mixup=0.4), Augment(cutmix=1)
BOTH = Augment(mixup=5, cutmix=5)


@tf.function
def drawn(seed, settings):
    return draw_mix(seed, settings, 20, 16)


def mixed(settings, seed):
    mixing = drawn(tf.constant([seed, 1]), settings)
    labels = mix_labels(tf.constant(LABELS), mixing, 4).numpy()
    images = mix_images(IMAGES.copy(), mixing.numpy())
    assert (images.dtype, labels.dtype) == (np.uint8, np.float32)
    assert (images.shape, labels.shape) == (IMAGES.shape, (6, 4))
    return images, labels


def share_of(labels):
    """The share of the first images, from labels that must be the right mixture."""
    share = labels[1, 1]  # its second image is of another class
    np.testing.assert_allclose(labels, share * FIRST + (1 - share) * SECOND, atol=1e-6)
    return share


def test_mixup_is_a_mean_of_images_and_of_labels():
    shares = []
    for seed in range(150):
        images, labels = mixed(MIXUP, seed)
        share = share_of(labels)
        expected = share * IMAGES + (1 - share) * np.roll(IMAGES, 1, axis=0)
        np.testing.assert_allclose(images, expected, atol=0.51)
        shares.append(share)
    # Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)).
    assert np.mean(shares) == pytest.approx(0.5, abs=0.08)
    assert np.var(shares) == pytest.approx(1 / (4 * 1.8), abs=0.03)


def test_cutmix_replaces_a_rectangle_of_its_share():
    shares = []
    for seed in range(150):
        images, labels = mixed(CUTMIX, seed)
        share = share_of(labels)
        other = np.roll(IMAGES, 1, axis=0)
        replaced = (images == other).all(axis=3) & (other != IMAGES).any(axis=3)
        kept = (images == IMAGES).all(axis=3)
        assert (replaced | kept).all()
        box = replaced[0]
        rows, columns = box.any(axis=1), box.any(axis=0)
        np.testing.assert_array_equal(box, np.outer(rows, columns))
        assert 1 - share == pytest.approx(box.mean(), abs=0.01)
        shares.append(share)
    # Uniform, but that a box at the edge is cut, which raises the share.
    assert 0.5 < np.mean(shares) < 0.75
    assert min(shares) < 0.35
    assert max(shares) > 0.95


def test_with_both_each_batch_takes_one():
    cuts = 0
    for seed in range(100):
        images, labels = mixed(BOTH, seed)
        share_of(labels)
        pixels = (images == IMAGES) | (images == np.roll(IMAGES, 1, axis=0))
        cuts += pixels.all()
    assert 35 < cuts < 65


def test_small_alphas_leave_nearly_all_batches_alone():
    settings = Augment(mixup=0.001)
    shares = np.array([share_of(mixed(settings, seed)[1]) for seed in range(40)])
    assert (np.minimum(shares, 1 - shares) < 0.02).mean() > 0.9
    assert 0.2 < shares.round().mean() < 0.8


def test_a_seed_fixes_the_mixture():
    settings = Augment(mixup=1, cutmix=1)
    first, again, other = (mixed(settings, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])
