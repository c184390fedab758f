from __future__ import annotations

import json

import pytest

from keras_resnet.data import Augment
from keras_resnet.errors import UserError


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pad": -1}, "augment: pad: -1 is not a number of pixels, not negative"),
        ({"pad": 1.5}, "pad: 1.5 is not"),
        ({"pad_mode": "zero"}, "pad_mode: 'zero' is not one of 'mean', 'reflect'"),
        ({"scale": (0.5, 0.1)}, r"scale: \[0.5, 0.1\] is not two increasing shares"),
        ({"scale": (0, 1)}, "scale: "),
        ({"scale": (0.5, 2)}, "scale: "),
        ({"scale": 0.5}, "scale: 0.5 is not"),
        ({"resize": (256.0, 480)}, "resize: .* lengths of the shorter side in pixels"),
        ({"flip": 1}, "flip: 1 is not true or false"),
        ({"policy": "auto"}, "policy: 'auto' is not one of 'none', 'trivial', 'rand'"),
        ({"policy": ["rand"]}, "policy: "),
        ({"policy_ops": 0}, "policy_ops: 0 is not a positive integer"),
        ({"policy_magnitude": 9}, "policy_magnitude: 9 is not a number from 0 to 1"),
        ({"color": -0.1}, "color: "),
        ({"lighting": float("nan")}, "lighting: nan is not a number"),
        ({"erase": True}, "erase: True is not"),
        ({"mixup": float("inf")}, "mixup: "),
        ({"cutmix": "1"}, "cutmix: "),
        ({"pad": 4, "scale": (0.08, 1)}, "augment: pad: with scale, but an image is"),
        ({"scale": (0.08, 1), "resize": (256, 480)}, "augment: scale: with resize"),
    ],
)
def test_a_mistake_names_its_field(fields, message):
    with pytest.raises(UserError, match=message) as raised:
        Augment(**fields)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pat": 1}, "augment: pat: not a field; the fields are pad, "),
        (3, "augment: 3 is not a JSON object of fields"),
    ],
)
def test_a_dictionary_of_something_else(fields, message):
    with pytest.raises(UserError, match=message):
        Augment.from_dict(fields)


def test_json_gives_the_same_back():
    augment = Augment(scale=(0.08, 1), flip=True, policy="rand", cutmix=1.0)
    assert Augment.from_dict(json.loads(json.dumps(augment.to_dict()))) == augment
    assert Augment(resize=[256, 480]) == Augment(resize=(256, 480))


def test_only_mixing_makes_labels_soft():
    assert Augment(mixup=0.2).mixes
    assert Augment(cutmix=1).mixes
    assert not Augment(pad=4, flip=True, erase=0.5, policy="trivial").mixes
