from __future__ import annotations

import json

import pytest
import targets
from conftest import ROOT

from keras_resnet import Cost, cifar_resnet, estimate_cost, get_spec, wide_resnet
from keras_resnet.cost import WORKING

MEMORY = ROOT / "benchmarks/results/memory.json"

ROWS = targets.rows()
SPECS = [targets.spec_of(row["model"], row["dataset"]) for row in ROWS]


def test_no_residual_network_is_left_out():
    others = {
        row["model"].split(" ")[0]
        for row, spec in zip(ROWS, SPECS, strict=True)
        if spec is None
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


@pytest.mark.parametrize(
    ("row", "spec"),
    [(row, spec) for row, spec in zip(ROWS, SPECS, strict=True) if spec],
    ids=[row["model"] for row, spec in zip(ROWS, SPECS, strict=True) if spec],
)
def test_published_sizes(row, spec):
    cost = estimate_cost(spec)
    assert (cost.params, cost.macs) == (int(row["params"]), int(row["macs"]))


def test_totals_count_moving_statistics():
    assert estimate_cost(get_spec("cifar_resnet20")).total_params == 271_098
    assert estimate_cost(get_spec("keras_resnet50")).total_params == 25_636_712
    assert estimate_cost(get_spec("keras_resnet50_v2")).total_params == 25_613_800


@pytest.mark.parametrize(
    ("depth", "kernels", "params"),
    [
        # Zagoruyko 2016, Table 2; the three-convolution types' depths are nominal.
        (40, (1, 3, 1), 1_429_082),
        (40, (3, 1, 1), 1_343_066),
        (22, (3, 1, 3), 1_145_498),
        (40, (3, 1), 1_211_354),
        (40, (1, 3), 1_297_370),
        (28, (3, 3), 1_467_610),
    ],
)
def test_block_types_of_wide_resnets(depth, kernels, params):
    assert estimate_cost(wide_resnet(depth, 2, kernels=kernels)).params == params


@pytest.mark.parametrize("layers", [1, 2, 3, 4])
def test_convolutions_in_a_block_of_wide_resnets(layers):
    """Zagoruyko 2016, Table 3: as many in all, so as many parameters."""
    spec = wide_resnet(40, 2, kernels=(3,) * layers, depths=(12 // layers,) * 3)
    assert estimate_cost(spec).params == 2_243_546


def test_activations_by_hand():
    cost = estimate_cost(get_spec("cifar_resnet20", depths=(1, 1, 1)))
    stem, stage1, stage2, stage3 = 16 * 1024, 2 * 16 * 1024, 2 * 32 * 256, 2 * 64 * 64
    assert cost.activations == stem + stage1 + stage2 + stage3 + 10


def test_open_image_size_leaves_only_parameters():
    open_size = estimate_cost(get_spec("resnet18", input_shape=(None, None, 3)))
    known = estimate_cost(get_spec("resnet18"))
    assert open_size == Cost(known.params, known.total_params, None, None, None)


def test_training_memory_by_hand():
    """The tensors that backpropagation needs, in a network of one basic unit."""
    spec = cifar_resnet(8, input_shape=(8, 8, 3), widths=(4, 4, 4), stem_width=4)
    spec = spec.replace(depths=(1,), widths=(4,))
    image, tensor = 8 * 8 * 3, 8 * 8 * 4
    # Conv, Norm, Relu of the stem: the convolution's output and the ReLU's.
    stem = image + 2 * tensor
    # Conv Norm Relu Conv Norm Add Relu: two convolutions' outputs, two ReLUs'.
    unit = 4 * tensor
    pooled = 4
    assert estimate_cost(spec).training_memory == 4 * (stem + unit + pooled)
    again = estimate_cost(spec, recompute=True).training_memory
    assert again == 4 * (stem + tensor + unit + WORKING * tensor)


@pytest.mark.parametrize("name", ["resnet50_v1_5", "wrn_28_10", "cifar_resnet110"])
@pytest.mark.parametrize("recompute", [False, True])
def test_training_memory_is_near_what_was_measured(name, recompute):
    measured = {
        (record["case"], record["peer"]): record["slope"] * 2**20
        for record in json.loads(MEMORY.read_text())["records"]
    }
    estimate = estimate_cost(get_spec(name), recompute=recompute).training_memory
    peer = "ours+recompute" if recompute else "ours"
    assert estimate == pytest.approx(measured[name, peer], rel=0.2)
