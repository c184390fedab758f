from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from images import arrays, labels, noise
from rich.console import Console
from sklearn.utils.class_weight import compute_sample_weight

from keras_resnet import data
from keras_resnet.data import Augment, DataError, DataWarning
from keras_resnet.data.pipeline import draw_balanced
from keras_resnet.data.summary import summary

SAMPLE = Path(__file__).parent / "golden" / "fashion_mnist"


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", batch_size=64)


def test_digits_are_split_without_loss_or_overlap(digits):
    splits = [arrays(split)[0] for split in (digits.train, digits.val, digits.test)]
    assert [len(images) for images in splits] == [1293, 144, 360]
    distinct = np.unique(np.concatenate(splits), axis=0)
    assert len(distinct) == 1797  # no digit is twice in the data, so none in two splits
    assert len(repr(digits)) < 200
    assert "'test': 360}, 10 classes, images of 8x8x1" in repr(digits)


def test_digits_are_stratified(digits):
    for split in (digits.train, digits.val, digits.test):
        labels = arrays(split)[1]
        share = np.bincount(labels) / len(labels)
        np.testing.assert_allclose(share, 0.1, atol=0.005)


def test_shapes_types_and_statistics(digits):
    assert (digits.classes, digits.image_shape) == (10, (8, 8, 1))
    assert digits.class_names == tuple("0123456789")
    for batches in (digits.train, digits.val, digits.test):
        # It waits by a clock that may be set back.
        assert batches.options().autotune.enabled is False
    assert digits.steps == 21
    images, labels = arrays(digits.train)
    assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
    assert images.max() == 255
    mean, std = digits.pixel_stats
    assert mean == pytest.approx([images.mean()])
    assert std == pytest.approx([images.std()])


def test_a_seed_fixes_splits_order_and_augmentation():
    def epochs(seed):
        splits = data.load("digits", augment=Augment(pad=1, flip=True), seed=seed)
        return [arrays(splits.train)[0] for _ in range(2)], arrays(splits.test)[0]

    (first, second), test = epochs(3)
    (again, again2), test_again = epochs(3)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(second, again2)
    np.testing.assert_array_equal(test, test_again)
    assert not np.array_equal(first, second)
    assert not np.array_equal(test, epochs(4)[1])


def test_balanced_sampling_draws_images_by_scikit_learns_weights():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [80, 15, 5]))
    epochs = 300
    times = np.zeros(100)
    for epoch in range(epochs):
        order = draw_balanced(labels, [7, epoch])
        counts = np.bincount(labels[order])
        assert len(order) == 100
        assert set(counts) == {33, 34}
        # None is missing, or comes twice more, while another of its class waits.
        drawn = np.bincount(order, minlength=100)
        assert all(np.ptp(drawn[labels == label]) <= 1 for label in range(3))
        times += drawn
    expected = compute_sample_weight("balanced", labels)
    np.testing.assert_allclose(times / epochs, expected, rtol=0.25)
    np.testing.assert_array_equal(order, draw_balanced(labels, [7, epoch]))


def test_a_balanced_epoch_has_as_many_of_each_class():
    images = noise(100)
    labels = np.repeat([0, 1], [90, 10])
    found = data.load((images, labels), sampling="balanced", batch_size=16)
    drawn = np.concatenate([batch.numpy() for _, batch in found.train])
    assert len(drawn) == found.counts["train"]
    assert abs(np.diff(np.bincount(drawn))) <= 1
    assert "times" not in shown(summary(found))
    assert "5.14" in shown(summary(found, {"times an epoch": (0.55, 5.1435)}))


def shown(table):
    console = Console(width=100, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()


def test_unknown_source():
    with pytest.raises(DataError, match="data: 'digitz' is not one of 'digits'"):
        data.load("digitz")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size: 0 is not a positive integer"),
        ({"sampling": "even"}, "sampling: 'even' is not one of 'uniform', "),
        ({"seed": -1}, "seed: -1 is not an integer"),
        ({"augment": {"pad": 1}}, "augment: .* is not an Augment"),
        ({"augment": Augment(pad=8)}, "augment: pad: 8 pixels, but the images are 8x8"),
        ({"augment": Augment(resize=(6, 9))}, r"resize: \[6, 9\] is smaller than the"),
        ({"augment": Augment(lighting=0.1)}, "lighting: needs colors"),
        ({"image_size": 0}, "image_size: 0 is not a number of pixels, or two"),
        ({"image_size": (8, 8, 1)}, "image_size: "),
        ({"test_size": 7.5}, "test_size: "),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(DataError, match=message):
        data.load("digits", **arguments)


def test_duplicates_across_splits_are_reported_and_kept():
    x, y = noise(30), labels(30)
    test = np.concatenate([x[:4], noise(5, seed=1)]), labels(9)
    with pytest.warns(DataWarning, match="same images are in two splits: .* test in"):
        splits = data.load({"train": (x, y), "val": test, "test": test})
    assert splits.duplicates == {
        "val in train": 4,
        "test in train": 4,
        "test in val": 9,
    }
    assert splits.counts == {"train": 30, "val": 9, "test": 9}


def test_the_description_loads_the_same_again():
    first = data.load("digits", seed=3, augment=Augment(pad=1), image_size=10)
    again = data.load(**first.arguments)
    np.testing.assert_array_equal(arrays(first.test)[0], arrays(again.test)[0])
    assert (again.fingerprint, again.image_shape) == (first.fingerprint, (10, 10, 1))
    assert again.pixel_stats == first.pixel_stats
    assert data.load("digits", seed=4).fingerprint != first.fingerprint


def test_sizes_of_training_and_test_may_differ():
    splits = data.load("digits", image_size=(6, 6), test_size=12)
    assert arrays(splits.train)[0].shape == (1293, 6, 6, 1)
    assert arrays(splits.val)[0].shape == (144, 12, 12, 1)
    assert arrays(splits.test)[0].shape == (360, 12, 12, 1)


def test_a_square_of_a_wide_image_is_its_middle():
    x = noise(30, (4, 8, 1))
    splits = data.load(
        {"train": (x, labels(30)), "test": (x[:9] // 2, labels(9))}, image_size=4
    )
    np.testing.assert_array_equal(arrays(splits.test)[0], x[:9, :, 2:6] // 2)


def test_learning_from_less_leaves_validation_and_test_whole(digits):
    few = data.load("digits", batch_size=64, train_images=100)
    assert few.counts == {"train": 100, "val": 144, "test": 360}
    assert few.steps == 2
    images, found = arrays(few.train)
    assert np.bincount(found).tolist() == [10] * 10
    whole = {image.tobytes() for image in arrays(digits.train)[0]}
    assert {image.tobytes() for image in images} < whole
    np.testing.assert_array_equal(arrays(few.test)[0], arrays(digits.test)[0])
    again = data.load(**few.arguments)
    assert again.fingerprint == few.fingerprint != digits.fingerprint
    assert data.load("digits", train_images=10**6).counts["train"] == 1293
    with pytest.raises(DataError, match="train_images: 9 are fewer than the 10"):
        data.load("digits", train_images=9)
    with pytest.raises(DataError, match="train_images: 1290 of 1293 leave out too few"):
        data.load("digits", train_images=1290)


def test_the_remainder_can_be_dropped():
    splits = data.load("digits", batch_size=128, drop_remainder=True)
    assert splits.steps == len(splits.train) == 10
    assert arrays(splits.train)[0].shape[0] == 1280
    assert arrays(splits.val)[0].shape[0] == 144


@pytest.mark.parametrize(("count", "batch_size"), [(9, 8), (1001, 8), (9, 128), (9, 1)])
def test_the_last_batch_of_evaluation_is_half_full(count, batch_size):
    test = noise(count, seed=1), labels(count)
    splits = data.load(
        {"train": (noise(30), labels(30)), "test": test}, batch_size=batch_size
    )
    sizes = [len(batch[1]) for batch in splits.test.as_numpy_iterator()]
    assert sum(sizes) == count
    assert max(sizes) <= batch_size
    assert sizes[-1] >= sizes[0] / 2


def test_mixed_labels_are_shares():
    splits = data.load("digits", augment=Augment(mixup=0.4, cutmix=1))
    found = arrays(splits.train)[1]
    assert (found.dtype, found.shape) == (np.float32, (1293, 10))
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    assert (np.count_nonzero(found, axis=1) == 2).mean() > 0.5
    assert arrays(splits.val)[1].dtype == np.int64


@pytest.mark.parametrize("crop", [{"pad": 2}, {"scale": (0.3, 1)}])
def test_everything_at_once(crop):
    augment = Augment(
        **crop,
        flip=True,
        policy="rand",
        color=0.4,
        lighting=0.1,
        erase=0.5,
        mixup=0.2,
        cutmix=1,
    )
    splits = data.load((noise(40), labels(40)), batch_size=16, augment=augment)
    first = arrays(splits.train)
    assert (first[0].shape, first[1].shape) == ((28, 8, 8, 3), (28, 3))
    again = data.load((noise(40), labels(40)), batch_size=16, augment=augment)
    for one, other in zip(first, arrays(again.train), strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_epoch_has_an_end():
    """Of endless data sets `fit` now and then waited for seconds."""
    splits = data.load("digits", batch_size=256, augment=Augment(pad=1, flip=True))
    assert splits.train.cardinality().numpy() == splits.steps == 6


def test_the_page_about_data_names_all_of_augment():
    page = (ROOT / "docs" / "data.md").read_text()
    assert [f.name for f in dataclasses.fields(Augment) if f.name not in page] == []
