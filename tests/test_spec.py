from __future__ import annotations

import json
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_resnet import (
    PRESETS,
    ResNetSpec,
    SpecError,
    cifar_resnet,
    estimate_cost,
    make_plan,
)
from keras_resnet import spec as module
from keras_resnet.cost import _training_memory, cost_of


def choices(literal):
    return st.sampled_from(get_args(literal))


@st.composite
def specs(draw) -> ResNetSpec:
    """Valid specs over all fields."""
    stages = draw(st.integers(1, 4))
    dense = draw(st.booleans())
    block = "dense" if dense else draw(st.sampled_from(["basic", "bottleneck"]))
    bottleneck = block == "bottleneck"
    cardinality = draw(st.sampled_from([1, 2, 4])) if bottleneck else 1
    start = draw(st.sampled_from([32, 64]))
    order = draw(choices(module.Order))
    norm = "batch" if order == "bn_after_add" else draw(choices(module.NormKind))
    merge = draw(choices(module.MergeKind))
    side = draw(st.one_of(st.none(), st.integers(64, 300)))
    kernels = None
    if block == "basic":
        several = st.lists(st.sampled_from([1, 3, 5]), min_size=1, max_size=4)
        kernels = draw(st.one_of(st.none(), several.map(tuple)))
    return ResNetSpec(
        name="a" + draw(st.text("abcXYZ_09.-", max_size=8)),
        input_shape=(draw(st.integers(1, 99)),) if dense else (side, side, 3),
        classes=draw(st.integers(1, 1000)),
        stem="dense" if dense else draw(st.sampled_from(["imagenet", "cifar", "deep"])),
        stem_width=draw(st.sampled_from([1, 8, 16])),
        block=block,
        kernels=kernels,
        depths=tuple(
            draw(st.lists(st.integers(1, 5), min_size=stages, max_size=stages))
        ),
        widths=tuple(start * 2**stage for stage in range(stages)),
        k=draw(st.sampled_from([1, 1.5, 2, 10])),
        cardinality=cardinality,
        group_width=draw(st.sampled_from([None, 4, 8])) if bottleneck else None,
        merge=merge,
        merge_scales=draw(st.tuples(st.floats(-2, 2), st.floats(-2, 2))),
        merge_dropout=draw(st.floats(0, 0.9)),
        gate_bias=draw(st.floats(-9, 0)),
        shortcut=draw(choices(module.Shortcut)),
        pad_pool=draw(choices(module.PadPool)),
        project_norm=draw(st.booleans()),
        project_pool=draw(st.booleans()),
        order=order,
        stride_on=draw(choices(module.StrideOn)),
        stride_at=draw(choices(module.StrideAt)),
        survival=draw(st.floats(0.1, 1)) if merge in ("add", "scale") else 1.0,
        survival_rule=draw(choices(module.SurvivalRule)),
        survival_mode=draw(choices(module.SurvivalMode)),
        dropout=draw(st.floats(0, 0.9)),
        zero_gamma=(
            draw(st.booleans())
            if norm == "batch"
            and order in ("post", "relu_only_pre")
            and merge != "none"
            else False
        ),
        init=draw(choices(module.Init)),
        norm=norm,
        conv_bias=draw(choices(module.ConvBias)),
        bn_epsilon=draw(st.floats(1e-6, 0.1)),
        bn_momentum=draw(st.floats(0, 1)),
        stem_pool_pad=draw(choices(module.StemPoolPad)),
    )


@given(specs())
def test_json_round_trip_of_any_spec(spec):
    text = spec.to_json()
    assert ResNetSpec.from_json(text) == spec
    assert ResNetSpec.from_json(text).to_json() == text


@given(specs())
def test_any_spec_has_a_plan_whose_shapes_chain(spec):
    plan = make_plan(spec)
    for unit in plan.units:
        assert unit.residual[-1].shape == unit.shape
        if unit.shortcut:
            assert unit.shortcut[-1].shape == unit.shape
        elif unit.merge:
            assert unit.in_shape == unit.shape
    names = [op.name for op in plan.ops]
    assert len(names) == len(set(names))
    # Costs are those of every layer, though units that are equal are counted once.
    counted, once = cost_of(plan.ops), (1,) * len(plan.units)
    for recompute in (False, True):
        cost = estimate_cost(spec, recompute=recompute)
        assert cost[:2] == counted[:2]
        if None in spec.input_shape:
            assert cost[2:] == (None, None, None)
        else:
            assert cost[2:4] == counted[2:4]
            assert cost.training_memory == _training_memory(plan, once, recompute)


@pytest.mark.parametrize("name", PRESETS)
def test_json_round_trip_of_presets(name):
    spec = PRESETS[name].spec
    assert spec.name == name
    assert ResNetSpec.from_json(spec.to_json()) == spec


def test_survival_by_both_rules():
    """Huang 2016, section 3: of 54 units 40.25 survive at p_L = 0.5, or 27."""
    spec = cifar_resnet(110, survival=0.5)
    linear = [spec.survival_of(unit) for unit in range(1, 55)]
    # The first not at 1 (Equation 4).
    assert (linear[0], linear[-1]) == (pytest.approx(1 - 0.5 / 54), 0.5)
    assert sum(linear) == pytest.approx(40.25)
    units = make_plan(spec).units
    assert [unit.merge.survival for unit in units] == linear
    uniform = make_plan(spec.replace(survival_rule="uniform"))
    assert {unit.merge.survival for unit in uniform.units} == {0.5}


def test_json_holds_all_fields_sorted_with_the_schema():
    fields = json.loads(ResNetSpec().to_json())
    assert list(fields) == sorted(fields)
    assert set(fields) == set(vars(ResNetSpec())) | {"schema"}
    assert fields["schema"] == 1


WRONG = (object(), {"a": 1}, float("nan"), -1, [[]], "x/y")


@pytest.mark.parametrize(
    ("field", "value"),
    [(f, v) for f in vars(ResNetSpec()) for v in WRONG if (f, v) != ("gate_bias", -1)],
)
def test_wrong_values_name_the_field(field, value):
    with pytest.raises(SpecError, match=f"^{field}: .* is not "):
        ResNetSpec(**{field: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depths": [3, 4]}, "depths: 2 stages, but widths has 4"),
        ({"name": "mein Netz"}, "name: 'mein Netz' is not a name of the letters A to"),
        ({"name": "猫"}, "name: '猫' is not a name of the letters A to Z, digits"),
        ({"depths": [5000, 5001, 1, 1]}, "depths: 10,003 units are more than"),
        ({"depths": True}, "depths: True is not a list"),
        ({"depths": [True, 1, 1, 1]}, "depths: "),
        ({"k": 1.0001}, "k: 1.0001 times width 256"),
        ({"k": 1024.0}, "k: 1024 times width 256 is 262144"),
        ({"cardinality": 3}, "cardinality: 3 does not divide 64"),
        ({"widths": [6, 12, 24, 48]}, "widths: 6 is not a multiple of 4"),
        ({"widths": [-64, 1, 1, 1]}, "widths: "),
        ({"block": "basic", "cardinality": 2}, "cardinality: 2 with group_width None"),
        ({"block": "basic", "group_width": 4}, "cardinality: 1 with group_width 4"),
        ({"group_width": 60_000}, "group_width: 60000 makes stage 2 120,000 wide"),
        ({"kernels": [3, 3]}, r"kernels: \[3, 3\] is not \[1, K, 1\]"),
        ({"kernels": [1, 2, 1]}, "kernels: "),
        ({"stem": "dense"}, "stem: 'dense', block 'dense' and a flat"),
        ({"input_shape": [224]}, "stem: 'dense', block 'dense' and a flat"),
        ({"input_shape": [224, 224]}, "input_shape: "),
        ({"input_shape": [224, 10**9, 3]}, "input_shape: "),
        ({"zero_gamma": True, "order": "pre"}, "zero_gamma: true needs"),
        ({"zero_gamma": True, "merge": "none"}, "zero_gamma: true needs"),
        ({"survival": 0.5, "merge": "none"}, "survival: 0.5 needs merge"),
        ({"survival": 0}, "survival: 0 is not a number above 0 to 1"),
        ({"order": "bn_after_add", "norm": "none"}, "order: 'bn_after_add' needs"),
        ({"order": "past"}, "order: 'past' is not one of 'post', 'pre', "),
        ({"klasses": 10}, "klasses: not a field; the fields are name, "),
    ],
)
def test_impossible_specs_say_why(changes, message):
    with pytest.raises(SpecError, match=f"^{message}") as error:
        ResNetSpec.from_dict(changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "spec: not JSON"),
        ("[]", r"spec: \[\] is not a JSON object"),
        ('{"schema": 2}', "schema: 2 is not 1"),
        ('{"depths": "3"}', "depths: '3' is not a list"),
    ],
)
def test_wrong_json_says_why(text, message):
    with pytest.raises(SpecError, match=f"^{message}"):
        ResNetSpec.from_json(text)


def test_numbers_of_numpy_are_numbers():
    spec = ResNetSpec(
        classes=np.int64(10), k=np.float32(2), input_shape=[np.int32(8), None, 3]
    )
    assert spec == ResNetSpec(classes=10, k=2.0, input_shape=(8, None, 3))
    assert ResNetSpec.from_json(spec.to_json()) == spec
    with pytest.raises(SpecError, match="classes: "):
        ResNetSpec(classes=np.float64(10))


def test_spec_is_frozen_and_hashable():
    assert len({ResNetSpec(), ResNetSpec(depths=[3, 4, 6, 3])}) == 1
    with pytest.raises(AttributeError):
        ResNetSpec().k = 2
