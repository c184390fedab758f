from __future__ import annotations

import pytest
import targets

from keras_resnet import Cost, estimate_cost, get_spec

ROWS = targets.rows()


def test_no_residual_network_is_left_out():
    others = {
        row["model"].split(" ")[0]
        for row in ROWS
        if targets.spec_of(row["model"], row["dataset"]) is None
    }
    # The networks that residual ones are compared with: no spec expresses them.
    assert others == {
        "AlexNet",
        "BN-AlexNet",
        "BN-NiN",
        "VGG-16",
        "VGG-19",
        "GoogLeNet",
        "Inception-v3",
        "Inception-v4",
        "Inception-ResNet-v2",
        "keras",  # InceptionV3 and InceptionResNetV2
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["model"])
def test_published_sizes(row):
    spec = targets.spec_of(row["model"], row["dataset"])
    if spec is None:
        assert row["model"].split(" ")[0] not in ("ResNet", "WRN", "ResNeXt")
        return
    cost = estimate_cost(spec)
    assert (cost.params, cost.macs) == (int(row["params"]), int(row["macs"]))


def test_totals_count_moving_statistics():
    assert estimate_cost(get_spec("cifar_resnet20")).total_params == 271_098
    assert estimate_cost(get_spec("keras_resnet50")).total_params == 25_636_712
    assert estimate_cost(get_spec("keras_resnet50_v2")).total_params == 25_613_800


def test_activations_of_alexnet_era_arithmetic():
    """By hand, for one convolution unit of ResNet-20's first stage."""
    cost = estimate_cost(get_spec("cifar_resnet20", depths=(1, 1, 1)))
    stem, stage1, stage2, stage3 = 16 * 1024, 2 * 16 * 1024, 2 * 32 * 256, 2 * 64 * 64
    assert cost.activations == stem + stage1 + stage2 + stage3 + 10


def test_open_image_size_leaves_only_parameters():
    open_size = estimate_cost(get_spec("resnet18", input_shape=(None, None, 3)))
    known = estimate_cost(get_spec("resnet18"))
    assert open_size == Cost(known.params, known.total_params, None, None, None)
