from __future__ import annotations

import pytest

from keras_resnet import (
    PRESETS,
    SpecError,
    cifar_resnet,
    cifar_resnext,
    get_spec,
    list_networks,
    wide_resnet,
)


def test_every_preset_cites_its_source():
    assert all(preset.source for preset in PRESETS.values())


def test_patterns():
    assert list_networks("resnext50_*") == [
        f"resnext50_{form}" for form in ("2x40d", "4x24d", "8x14d", "32x4d")
    ]
    assert list_networks("nothing*") == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cifar_resnet(21), r"6n\+2 layers, which 21 is not; .* 20 and 26"),
        (lambda: cifar_resnet(2), r"which 2 is not; nearest are 8 and 14"),
        (lambda: cifar_resnet(-4), "which -4 is not; nearest are 8 and 14"),
        (lambda: cifar_resnet(20.0), "depth: 20.0 is not an integer"),
        (lambda: cifar_resnet("20"), "depth: '20' is not an integer"),
        (lambda: cifar_resnet(29, "bottlenek"), "block: 'bottlenek' is not 'basic' or"),
        (lambda: wide_resnet(16, "4"), "k: '4' is not a number"),
        (lambda: wide_resnet(28, 2, block="bottleneck"), "block: a Wide ResNet has"),
        (lambda: cifar_resnet(32, "bottleneck"), r"9n\+2 layers, which 32 is not"),
        (lambda: wide_resnet(30, 2), r"6n\+4 layers, which 30 is not; .* 28 and 34"),
        (lambda: cifar_resnext(28, 8, 64), r"9n\+2 layers, which 28 is not"),
        (lambda: wide_resnet(28, -2), "k: -2 is not a number above 0"),
        (lambda: get_spec("resnet51"), "named 'resnet51'; closest: resnet50"),
        (lambda: get_spec("wrn_29_3"), "which 29 is not"),
        (lambda: get_spec("cifar_resnet21"), "21 layers are neither 6n"),
        (
            lambda: get_spec("cifar_resnet38"),
            r"cifar_resnet\(38, block\) with block 'basic' \(6n\+2\) or 'bottleneck'",
        ),
        (
            lambda: get_spec("cifar_plain38"),
            r"cifar_resnet\(38, block, merge='none'\) with block 'basic'",
        ),
        (
            lambda: get_spec("cifar_highway44"),
            r"\(44, block, merge='exclusive_gate', gate_bias=-3\.0\) with block 'bas",
        ),
        (
            lambda: get_spec("cifar_resnet56_v2"),
            r"\(56, block, order='pre', project_norm=False\) with block 'basic'",
        ),
        (lambda: get_spec("zzz"), "see `keras-resnet list`"),
        (lambda: get_spec(50), "50 is not the name of a preset"),
        (lambda: get_spec("resnet50", depth=3), "depth: not a field"),
    ],
)
def test_mistakes_say_what_would_be_right(make, message):
    with pytest.raises(SpecError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_names_that_say_all_need_no_row():
    assert get_spec("wrn_34_3") == wide_resnet(34, 3)
    assert get_spec("cifar_resnext38_4x32d") == cifar_resnext(38, 4, 32)
    assert get_spec("wrn_28_10") == wide_resnet(28, 10)


def test_changes():
    assert get_spec("resnet50", classes=7).classes == 7
    assert get_spec("wrn_34_10", k=2).k == 2
    assert cifar_resnet(20, order="pre").order == "pre"
