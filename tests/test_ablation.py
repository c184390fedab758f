from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_resnet import build, cifar_resnet
from keras_resnet.analysis import lesions
from keras_resnet.errors import UserError

SHAPE = (8, 8, 1)


def tiny(**changes):
    fields = {"input_shape": SHAPE, "stem_width": 4, "widths": (4, 8, 8)} | changes
    return build(cifar_resnet(8, name="tiny", **fields))


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return rng.normal(size=(64, *SHAPE)).astype("float32"), rng.integers(0, 10, 64)


def test_lesions(batch):
    model = tiny(zero_gamma=True)
    model.get_layer("conv3_block1_2_bn").gamma.assign(np.full(8, 3.0))
    labels = np.argmax(model(batch[0]), -1)
    rows = lesions(model, [(batch[0], labels)])
    assert [row.unit for row in rows] == [None] + [
        f"conv{stage}_block1_add" for stage in (2, 3, 4)
    ]
    whole, first, second, third = (row.error for row in rows)
    assert (whole, first, third) == (0, 0, 0)  # these units are identities
    assert second > 0
    assert model.get_layer("conv3_block1_add").output is not None  # left as it was


@pytest.mark.parametrize(
    ("merge", "without"),
    [
        ("scale", lambda unit, x: 0.5 * x),
        ("dropout", lambda unit, x: 0.5 * x),
        ("shortcut_gate", lambda unit, x: (1 - unit.gate(x)) * x),
        ("exclusive_gate", lambda unit, x: x),
    ],
)
def test_a_lesion_leaves_what_the_shortcut_adds(batch, merge, without):
    model = tiny(merge=merge, merge_scales=(0.5, 0.5))
    unit = model.get_layer("conv4_block1_add")
    # Or a factor of all features would change no class.
    model.layers[-1].bias.assign(np.linspace(0, 0.5, 10))
    shortcut = keras.Model(model.input, unit.input[0])(batch[0])
    rest = keras.Model(unit.output, model.output)
    labels = np.argmax(rest(without(unit, shortcut)), -1)
    assert lesions(model, [(batch[0], labels)])[-1].error == 0


def test_a_unit_of_a_nested_network(batch):
    model = tiny()
    image = keras.Input(SHAPE)
    outer = keras.Model(image, model(image))
    labels = np.argmax(model(batch[0]), -1)
    assert lesions(outer, [(batch[0], labels)]) == lesions(model, [(batch[0], labels)])


def test_what_is_not_there(batch):
    with pytest.raises(UserError, match="no shortcuts"):
        lesions(tiny(merge="none"), [batch])
    with pytest.raises(UserError, match="not batches of"):
        lesions(tiny(), [batch[0]])
    with pytest.raises(UserError, match="no images"):
        lesions(tiny(), [])
