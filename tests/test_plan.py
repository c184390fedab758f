from __future__ import annotations

import pytest

from keras_resnet import PRESETS, SpecError, cifar_resnet, get_spec, make_plan
from keras_resnet.plan import Conv, Norm, Pool, Relu


def letters(ops) -> str:
    """A unit's layers in the notation of He 2016, Table 2."""
    signs = {Conv: "W", Norm: "B", Relu: "R"}
    return "".join(signs.get(type(op), "") for op in ops)


@pytest.mark.parametrize(
    ("order", "unit"),
    [
        ("post", "WBRWB+R"),
        ("bn_after_add", "WBRW+BR"),
        ("relu_before_add", "WBRWBR+"),
        ("relu_only_pre", "RWBRWB+"),
        ("pre", "BRWBRW+"),
    ],
)
def test_activation_orders(order, unit):
    second = make_plan(cifar_resnet(20, order=order)).units[1]
    branch = letters(second.shared) + letters(second.residual)
    assert branch + "+" + letters(second.after) == unit


def test_pre_activation_ends_in_batch_norm_and_relu_and_shares_the_first():
    plan = make_plan(cifar_resnet(20, order="pre"))
    assert letters(plan.stem) == "W"
    assert letters(plan.units[0].shared) == "BR"  # He 2016, appendix
    assert letters(plan.units[1].shared) == ""
    assert letters(plan.head) == "BR"


def test_imagenet_pre_activation_has_its_first_activation_in_the_stem():
    plan = make_plan(get_spec("resnet200_v2"))
    assert letters(plan.stem) == "WBR"
    assert letters(plan.units[0].shared) == ""
    assert letters(plan.units[3].shared) == "BR"


@pytest.mark.parametrize("name", PRESETS)
def test_depth_of_presets(name):
    preset = PRESETS[name]
    depth = make_plan(preset.spec).depth
    if name.startswith("wrn_"):
        depth += 2  # three projections counted, the classifier not
    if preset.spec.stem == "deep":
        depth -= 2  # two convolutions more than the network is named for
    assert depth == preset.depth


def stage_openers(name: str):
    plan = make_plan(get_spec(name))
    return [unit for unit in plan.units if unit.name.endswith("block1")]


def test_stride_is_on_the_papers_convolution():
    for name, striding in (("resnet50", "1_conv"), ("resnet50_v1_5", "2_conv")):
        unit = stage_openers(name)[1]
        strided = [
            op for op in unit.residual if isinstance(op, Conv) and op.stride == 2
        ]
        assert [op.name for op in strided] == [f"conv3_block1_{striding}"]
        assert unit.shape == (28, 28, 512)


def test_keras_v2_strides_in_the_last_unit():
    units = make_plan(get_spec("keras_resnet50_v2")).units
    assert [unit.name for unit in units if unit.stride == 2] == [
        "conv2_block3",
        "conv3_block4",
        "conv4_block6",
    ]
    strided = units[2]
    assert [type(op) for op in strided.shortcut] == [Pool]


def test_shortcut_options():
    kinds = {
        option: [unit.shortcut_kind for unit in make_plan(spec).units]
        for option in ("pad", "project", "project_all")
        for spec in [cifar_resnet(20, shortcut=option)]
    }
    identity = ["identity"] * 2
    assert kinds["pad"] == ["identity", *identity, "pad", *identity, "pad", *identity]
    assert kinds["project"].count("projection") == 2
    assert kinds["project_all"] == ["projection"] * 9


def test_resnext_template_doubles_the_groups_width():
    convs = [op for unit in stage_openers("resnext50_32x4d") for op in unit.residual]
    grouped = [op for op in convs if isinstance(op, Conv) and op.groups == 32]
    assert [op.shape[-1] for op in grouped] == [128, 256, 512, 1024]


def dilations(name, **changes):
    plan = make_plan(get_spec(name, output_stride=8, **changes))
    assert plan.units[-1].shape[:2] == (28, 28)
    return [
        op.dilation
        for unit in plan.units
        for op in unit.residual
        if isinstance(op, Conv) and op.kernel == 3
    ]


def test_output_stride_dilates_instead():
    # torchvision's replace_stride_with_dilation=(False, True, True)
    assert dilations("resnet50_v1_5") == [1] * 7 + [1] + [2] * 5 + [2] + [4] * 2
    # Where the stride is on the 1x1 before, the 3x3 sees pixels between.
    assert dilations("resnet50") == [1] * 7 + [2] * 6 + [4] * 3
    assert dilations("resnet18") == [1] * 8 + [1, 2, 2, 2] + [2, 4, 4, 4]


def test_pools_of_shortcuts_dilate_with_the_unit():
    plan = make_plan(get_spec("resnet50_d", output_stride=8))
    pools = [op for unit in plan.units for op in unit.shortcut if isinstance(op, Pool)]
    assert [(op.stride, op.dilation) for op in pools] == [(2, 1), (1, 1), (1, 2)]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "resnet50",
            {"input_shape": (31, 32, 3)},
            r"input_shape: \[31, 32, 3\] is too",
        ),
        ("cifar_resnet20", {"input_shape": (3, 3, 3)}, "at least 4x4 pixels"),
        ("cifar_resnet20", {"output_stride": 32}, "output_stride: 32 is above"),
        ("cifar_resnet20", {"widths": (64, 32, 16)}, "shortcut: 'pad' can't narrow"),
    ],
)
def test_impossible_sizes(name, changes, message):
    with pytest.raises(SpecError, match=message):
        make_plan(get_spec(name, **changes))


def test_open_sizes_stay_open():
    plan = make_plan(get_spec("resnet18", input_shape=(None, None, 3)))
    assert plan.units[-1].shape == (None, None, 512)
