from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.utils.class_weight import compute_class_weight

from keras_resnet.losses import LabelAccuracy, LabelLoss, balanced_weights

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(0, 3, (8, 6)).astype("float32")
CLASSES = RANDOM.integers(0, 6, 8)
ONE_HOT = np.eye(6, dtype="float32")[CLASSES]
SHARES = RANDOM.dirichlet(np.ones(6), 8).astype("float32")


@pytest.mark.parametrize("labels", [CLASSES, CLASSES[:, None], ONE_HOT])
def test_classes_in_every_form_give_keras_cross_entropy(labels):
    expected = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    np.testing.assert_allclose(
        LabelLoss()(labels, LOGITS), expected(CLASSES, LOGITS), rtol=1e-6
    )
    smooth = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    np.testing.assert_allclose(
        LabelLoss(label_smoothing=0.1)(labels, LOGITS),
        smooth(ONE_HOT, LOGITS),
        rtol=1e-6,
    )


def test_shares_of_mixed_images():
    log_softmax = LOGITS - np.log(np.exp(LOGITS).sum(-1, keepdims=True))
    expected = -(SHARES * log_softmax).sum(-1).mean()
    np.testing.assert_allclose(LabelLoss()(SHARES, LOGITS), expected, rtol=1e-5)


def test_binary_is_a_sigmoid_a_class():
    expected = keras.losses.BinaryCrossentropy(from_logits=True)
    for labels, hot in ((CLASSES, ONE_HOT), (SHARES, SHARES)):
        np.testing.assert_allclose(
            LabelLoss(binary=True)(labels, LOGITS), expected(hot, LOGITS), rtol=1e-6
        )
    smoothed = 0.9 * ONE_HOT + 0.1 / 6
    np.testing.assert_allclose(
        LabelLoss(binary=True, label_smoothing=0.1)(CLASSES, LOGITS),
        expected(smoothed, LOGITS),
        rtol=1e-6,
    )


def test_balanced_weights_are_scikit_learns():
    labels = np.repeat(np.arange(6), [40, 3, 7, 1, 90, 9])
    expected = compute_class_weight("balanced", classes=np.arange(6), y=labels)
    np.testing.assert_allclose(balanced_weights(np.bincount(labels)), expected)


WEIGHTS = (0.2, 3.0, 1.0, 0.5, 7.0, 1.5)


@pytest.mark.parametrize("labels", [CLASSES, CLASSES[:, None], ONE_HOT])
@pytest.mark.parametrize("options", [{}, {"binary": True}, {"label_smoothing": 0.1}])
def test_a_class_weight_counts_as_keras_counts_it(labels, options):
    expected = LabelLoss(**options)(
        labels, LOGITS, sample_weight=np.array(WEIGHTS, "float32")[CLASSES]
    )
    loss = LabelLoss(class_weight=WEIGHTS, **options)
    np.testing.assert_allclose(loss(labels, LOGITS), expected, rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"binary": True}, {"label_smoothing": 0.1}])
def test_each_label_of_a_mixed_image_counts_by_its_class(options):
    """The loss and its gradient are the sums over the labels, by shares and weights."""
    plain, weighed = LabelLoss(**options), LabelLoss(class_weight=WEIGHTS, **options)
    logits = tf.Variable(LOGITS)
    with tf.GradientTape(persistent=True) as tape:
        every = [plain.call(np.full(8, c), logits) for c in range(6)]
        counted = SHARES * np.array(WEIGHTS, "float32")
        expected = tf.reduce_sum(tf.stack(every, axis=1) * counted, axis=1)
        loss = weighed.call(SHARES, logits)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(
        tape.gradient(loss, logits), tape.gradient(expected, logits), atol=1e-5
    )


def test_weights_of_other_classes_are_refused():
    with pytest.raises(ValueError, match="class_weight: 2 weights of 6 classes"):
        LabelLoss(class_weight=(1.0, 2.0))(CLASSES, LOGITS)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_accuracy_counts_the_k_best(k):
    ranked = LOGITS.argsort(-1)[:, ::-1][:, :k]
    for labels, right in (
        (CLASSES, CLASSES),
        (CLASSES[:, None], CLASSES),
        (SHARES, SHARES.argmax(-1)),
    ):
        metric = LabelAccuracy(k=k)
        metric.update_state(labels, LOGITS)
        expected = np.mean([r in row for r, row in zip(right, ranked, strict=True)])
        assert float(metric.result()) == pytest.approx(expected)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("wrong", [6, -1])
def test_a_class_that_there_is_not_is_no_number(binary, wrong):
    """Not a label that costs nothing."""
    labels = np.array([0, wrong, 1])
    each = LabelLoss(binary=binary, reduction=None)(labels, LOGITS[:3])
    np.testing.assert_array_equal(np.isnan(each), labels == wrong)


def test_what_is_neither_classes_nor_shares_is_refused():
    for measure in (LabelLoss(), LabelLoss(binary=True), LabelAccuracy()):
        with pytest.raises(ValueError, match="a single logit has no classes"):
            measure(CLASSES % 2, LOGITS[:, :1])
        with pytest.raises(ValueError, match=r"of shape \(8, 5\), neither classes"):
            measure(SHARES[:, :5], LOGITS)
    with pytest.raises(ValueError, match=r"label_smoothing: 1\.5"):
        LabelLoss(label_smoothing=1.5)


def test_configurations_come_back():
    loss = LabelLoss(binary=True, label_smoothing=0.2, name="mine")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert (again.binary, again.label_smoothing, again.name) == (True, 0.2, "mine")
    metric = LabelAccuracy(k=5, name="top5_accuracy")
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert (again.k, again.name) == (5, "top5_accuracy")
