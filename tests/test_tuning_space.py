"""Spaces, samples, budgets: nothing here builds a network."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tuning
from keras_resnet import SpecError, cifar_resnet, estimate_cost, get_spec, make_plan
from keras_resnet.cost import cost_of
from keras_resnet.training import get_recipe
from keras_resnet.units import in_units
from tuning.budget import Budget, at_cost, fitted, macs_of, training_bytes
from tuning.decode import declare, hyperparameters_of, recipe_from_hp
from tuning.space import PARAMETERS, Range, Space
from tuning.spaces import SPACES

EVERYTHING = Space(
    name="everything",
    block=("basic", "bottleneck"),
    units=Range(1, 9),
    k=Range(0.1, 12.0),
    cardinality=Range(1, 64, log=True),
    group_width=Range(1, 64),
    order=("post", "pre", "bn_after_add", "relu_before_add", "relu_only_pre"),
    survival=Range(0.1, 1.0),
    stem=("imagenet", "cifar", "deep"),
    learning_rate=Range(1e-3, 1.0, log=True),
    l2=Range(1e-6, 1e-2, log=True),
    augment=(0.0, 0.5, 1.0, 2.0),
    batch_size=(16, 32),
)


def samples_of(space: Space) -> st.SearchStrategy[SimpleNamespace]:
    """Samples as KerasTuner draws them: some conditional values are absent."""

    def one(field: str) -> st.SearchStrategy[object]:
        values = getattr(space, field)
        if isinstance(values, tuple):
            return st.sampled_from(values)
        if PARAMETERS[field].kind is int:
            return st.integers(values.low, values.high)
        return st.floats(values.low, values.high)

    return st.fixed_dictionaries(
        {}, optional={field: one(field) for field in space.searched}
    ).map(lambda values: SimpleNamespace(values=values))


BASES = st.sampled_from(
    [
        "cifar_resnet20", "wrn_16_4", "cifar_resnext29_8x64d", "resnet50", "resnet50_d",
        "keras_resnet50_v2", "cifar_plain20", "cifar_highway20", "cifar_resnet110_sd",
    ]
)  # fmt: skip


@settings(max_examples=150)
@given(hp=samples_of(EVERYTHING), base=BASES)
def test_every_sample_is_a_network_that_has_a_cost(hp, base):
    spec = tuning.spec_from_hp(hp, EVERYTHING, get_spec(base, input_shape=(32, 32, 3)))
    assert spec == tuning.spec_from_hp(
        hp, EVERYTHING, get_spec(base, input_shape=(32, 32, 3))
    )
    assert estimate_cost(spec).macs == cost_of(make_plan(spec).ops).macs
    if (
        spec.block == hp.values.get("block") == "bottleneck"
        and "cardinality" in hp.values
    ):
        assert spec.cardinality == hp.values["cardinality"]


@settings(max_examples=50)
@given(hp=samples_of(EVERYTHING))
def test_every_sample_is_a_recipe(hp):
    base = get_recipe("digits")
    recipe = recipe_from_hp(hp, EVERYTHING, base)
    batch = hp.values.get("batch_size", base.batch_size)
    rate = hp.values.get("learning_rate", base.learning_rate)
    assert recipe.learning_rate == pytest.approx(rate * batch / base.batch_size)


def test_ready_spaces_are_json_and_declare_conditions():
    import keras_tuner

    for forms in SPACES.values():
        for space in forms.values():
            assert Space.from_json(space.to_json()) == space
            hp = keras_tuner.HyperParameters()
            declare(hp, space)
            assert {entry.name for entry in hp.space} == set(space.searched)
    hp.values["block"] = "basic"
    assert not hp.is_active("cardinality")
    hp.values["block"] = "bottleneck"
    assert hp.is_active("cardinality")
    assert Space.from_json(EVERYTHING.to_json()) == EVERYTHING


def test_samples_say_what_the_papers_do():
    base = cifar_resnet(20)
    space = Space(
        depth=(20, 110), block=("basic", "bottleneck"), k=(1, 2), cardinality=(1, 4)
    )

    def spec(**values):
        return tuning.spec_from_hp(SimpleNamespace(values=values), space, base)

    assert spec(depth=110).depths == (18, 18, 18)
    wide = spec(depth=20, k=2.0)
    assert (wide.k, wide.outer_width(0)) == (2.0, 32)
    bottleneck = spec(depth=29, block="bottleneck")
    assert bottleneck.depths == (3, 3, 3)
    assert bottleneck.widths == (64, 128, 256)
    grouped = spec(block="bottleneck", cardinality=4)
    assert (grouped.group_width, grouped.inner_width(0)) == (4, 16)
    four = tuning.spec_from_hp(
        SimpleNamespace(values={"depth": 101}),
        Space(depth=(101,)),
        get_spec("resnet50"),
    )
    assert four.depths == (3, 4, 23, 3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "is empty"),
        ({"k": ()}, "k: .* empty"),
        ({"k": (0.0,)}, "k: 0.0 is not numbers"),
        ({"units": (1.5,)}, "units: 1.5 is not integers"),
        ({"units": Range(3, 1)}, "units: .* low end"),
        ({"l2": Range(0.0, 1e-3, log=True)}, "l2: .* above 0"),
        ({"block": ("dense",)}, "block: 'dense' is not one of"),
        ({"block": Range(1, 2)}, "block: .* is not a range"),
        ({"depth": (20,), "units": (3,)}, "units: with depth"),
    ],
)
def test_a_wrong_space_is_one_line(fields, message):
    with pytest.raises(tuning.SpaceError, match=message) as caught:
        Space(**fields)
    assert "\n" not in str(caught.value)


def test_a_wrong_value_of_a_hyperparameter_is_one_line():
    space, base = tuning.Space(depth=(8, 14)), get_spec("resnet18")
    for depth in (1, "x", None, 8.0):
        with pytest.raises(
            tuning.SpaceError, match=r"space: depth: .* is not integers from 3"
        ):
            tuning.spec_from_hp(SimpleNamespace(values={"depth": depth}), space, base)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"wdith": [1]}', '{"k": {"min": 1}}', '{"schema": 2}']
)
def test_wrong_json_of_a_space_is_one_line(text):
    with pytest.raises(tuning.SpaceError):
        Space.from_json(text)


def test_the_depth_of_a_network_is_the_one_asked_for():
    """Of ImageNet's networks with basic units too: 26 is no ResNet-18."""
    for name, depths in {"resnet18": (18, 26, 34, 50), "resnet50": (26, 50)}.items():
        base = get_spec(name)
        space = tuning.get_space("depth", base)
        for depth in depths:
            assert depth in space.depth
            sample = SimpleNamespace(values={"depth": depth})
            assert make_plan(tuning.spec_from_hp(sample, space, base)).depth == depth


@pytest.mark.parametrize(
    ("k", "cardinality"), [(0.25, 4), (0.3, 2), (0.5, 1), (0.5, 2), (1.0, 2), (2.0, 2)]
)
def test_candidates_at_equal_cost_keep_a_searched_width(k, cardinality):
    base = cifar_resnet(20)
    space = EVERYTHING.replace(units=None, group_width=None, depth=(29,))
    values = {"block": "bottleneck", "depth": 29, "k": k}
    plain = tuning.spec_from_hp(SimpleNamespace(values=values), space, base)
    macs = 1.3 * estimate_cost(plain).macs
    values["cardinality"] = cardinality
    wide = tuning.spec_from_hp(SimpleNamespace(values=values), space, base)
    spec = at_cost(wide, macs, keep_outer=True)
    assert spec.cardinality == cardinality
    assert spec.outer_width(0) == pytest.approx(wide.outer_width(0), abs=1)
    assert estimate_cost(spec).macs == pytest.approx(macs, rel=0.05)


def test_a_space_that_the_base_has_no_use_for_is_refused():
    digits = get_recipe("digits")
    with pytest.raises(tuning.SpaceError, match="have no groups"):
        Space(cardinality=(1, 2)).check(digits)
    with pytest.raises(tuning.SpaceError, match="dense units"):
        Space(k=(1, 2)).check(digits.replace(model=get_spec("dense_resnet8")))
    with pytest.raises(tuning.SpaceError, match="is not one of"):
        tuning.get_space("deep", digits.model)


def test_an_open_image_size_has_no_cost_to_keep_to():
    with pytest.raises(SpecError, match="open"):
        macs_of(get_spec("resnet50", input_shape=(None, None, 3)))


@pytest.mark.parametrize("name", ["resnet50", "resnet50_v1_5"])
def test_the_ladder_of_resnext_comes_out(name):
    base = get_spec(name)
    macs = estimate_cost(base).macs
    ladder = []
    for cardinality in (1, 2, 4, 8, 32):
        sample = SimpleNamespace(values={"cardinality": cardinality})
        spec = tuning.spec_from_hp(sample, Space(cardinality=(1, 2, 4, 8, 32)), base)
        spec = at_cost(spec, macs)
        assert spec.widths == base.widths
        ladder.append(f"{cardinality}x{spec.inner_width(0) // cardinality}d")
    assert ladder == ["1x64d", "2x40d", "4x24d", "8x14d", "32x4d"]


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("depth", [11, 20, 29, 56, 110])
@pytest.mark.parametrize("cardinality", [1, 4, 16])
def test_candidates_at_equal_cost_cost_the_same(block, depth, cardinality):
    base, space = cifar_resnet(20), EVERYTHING.replace(units=None, depth=(depth,))
    macs = macs_of(base)
    values = {"block": block, "depth": depth}
    if block == "bottleneck":
        values["cardinality"] = cardinality
    spec = tuning.spec_from_hp(SimpleNamespace(values=values), space, base)
    assert macs_of(at_cost(spec, macs)) == pytest.approx(macs, rel=0.05)


def test_budgets_are_read_refuse_and_repair():
    assert Budget.parse("4.1GMAC, 2Mparam, 500MB, 5ms, 2h") == Budget(
        macs=pytest.approx(4.1e9), params=2e6, memory=5e8, latency=0.005, time=7200
    )
    for text in ("", "3x", "MAC", "-2h", "1GMAC,2MMAC", "0h"):
        with pytest.raises(tuning.BudgetError, match="budget"):
            Budget.parse(text)
    amounts = (0, 999, 999.6, 999_400_000, 999_700_000, 4.1e9)
    assert [in_units(v, "MAC") for v in amounts] == [
        "0MAC",
        "999MAC",
        "1kMAC",
        "999MMAC",
        "1GMAC",
        "4.1GMAC",
    ]
    spec = cifar_resnet(20)
    with pytest.raises(tuning.BudgetError, match="MAC are over 10MMAC"):
        fitted(spec, Budget(macs=10e6), 128, "refuse")
    with pytest.raises(tuning.BudgetError, match="B are over 1MB"):
        fitted(spec, Budget(memory=1e6), 128, "refuse")
    for budget in (Budget(macs=10e6), Budget(params=50e3), Budget(memory=40e6)):
        small = fitted(spec, budget, 128, "repair")
        assert budget.refusal(small, 128) is None
        assert small.depths == spec.depths
    assert training_bytes(small, 128) <= 40e6
    with pytest.raises(tuning.BudgetError, match="needs multiply-adds"):
        fitted(spec, Budget(), 128, "iso")
    with pytest.raises(tuning.BudgetError):
        fitted(spec, Budget(macs=10), 128, "repair")


def test_what_a_budget_left_of_k_is_reported():
    base = get_spec("cifar_resnet20")
    values = {"k": 4.0, "depth": 27}
    space = Space(k=Range(1.0, 4.0), depth=(27,))
    asked = tuning.spec_from_hp(SimpleNamespace(values=values), space, base)
    drawn = hyperparameters_of(asked, base)
    assert (drawn["k"], drawn["depth"]) == (4, 26)
    spec = fitted(asked, Budget.parse("100MMAC"), 32, "repair")
    left = hyperparameters_of(spec, base)
    assert left["k"] == spec.outer_width(0) / 16 < 2
    bottleneck = {"block": "bottleneck", "k": 2.0, "cardinality": 4}
    spec = tuning.spec_from_hp(
        SimpleNamespace(values=bottleneck),
        Space(block=("basic", "bottleneck"), k=(2.0,), cardinality=(4,)),
        base,
    )
    found = hyperparameters_of(spec, base)
    assert found.items() >= bottleneck.items()
