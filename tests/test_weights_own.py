"""Files as people keep them: under prefixes, nested, with their own heads, broken."""

from __future__ import annotations

import json

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest
from peers import RECORDED, draw
from safetensors.numpy import save_file

from keras_resnet import build, cifar_resnet, get_spec, weights
from keras_resnet.errors import WeightsWarning
from keras_resnet.weights import WeightsError, dialects, keras_files, state_dicts

PEERS = json.loads(RECORDED.read_text())
STATE = draw(PEERS["torchvision resnet18"]["shapes"])
SIGNS = dialects.first_tensors()


@pytest.fixture(scope="module")
def model():
    return build("resnet18", input_shape=(32, 32, 3))


def loaded(model, tensors, tmp_path, name="own.safetensors", **options):
    """Whether the stem's kernel is the file's after loading."""
    path = tmp_path / name
    save_file(dict(tensors), path)
    model.get_layer("conv1_conv").kernel.assign(np.zeros((7, 7, 3, 64)))
    weights.load(model, path, **options)
    kernel = STATE["conv1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(model.get_layer("conv1_conv").kernel, kernel)


def under(prefix, state=STATE):
    return {prefix + name: value for name, value in state.items()}


@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "module.module."]
)
def test_wrappers_prefixes_mean_nothing(model, prefix, tmp_path):
    loaded(model, under(prefix), tmp_path)


@pytest.mark.parametrize(
    "prefix",
    ["model.", "net.", "backbone.", "module.model.backbone.", "cnn.", "0.", "a.b."],
)
def test_other_prefixes_are_said(model, prefix, tmp_path):
    with pytest.warns(WeightsWarning, match=f"read what is under {prefix!r}"):
        loaded(model, under(prefix), tmp_path)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("module.encoder_q.", "module.encoder_k."),
        ("student.", "teacher."),
        ("module.base_encoder.", "module.momentum_encoder."),
        ("online_network.", "target_network."),
    ],
)
def test_the_second_network_of_a_pair_is_left_out(model, first, second, tmp_path):
    other = {name: np.asarray(value + 1) for name, value in STATE.items()}
    both = under(first) | under(second, other)
    both["module.queue"] = np.zeros((4, 8), "float32")
    with pytest.warns(WeightsWarning, match=f"left out what is under '{second}'"):
        loaded(model, both, tmp_path, head=False)


@pytest.mark.parametrize(("first", "second"), [("model.", "net."), ("a.b.", "c.")])
def test_two_networks_that_could_both_be_meant_are_refused(
    model, first, second, tmp_path
):
    other = {name: np.asarray(value + 1) for name, value in STATE.items()}
    both = under(first) | under(second, other)
    with pytest.raises(WeightsError, match=f"networks under '{first}' and '{second}'"):
        loaded(model, both, tmp_path)
    loaded(model, both, tmp_path, key=first[:-1])


def test_what_stands_beside_a_backbone_is_left_out(model, tmp_path):
    pyramid = {"fpn.layer_blocks.0.0.weight": np.zeros((8, 512, 3, 3), "float32")}
    with pytest.warns(WeightsWarning, match=r"under 'backbone\.body\.'"):
        loaded(model, under("backbone.body.") | pyramid, tmp_path, head=False)


def test_children_of_a_sequential_are_the_network(model, tmp_path):
    """`nn.Sequential(*resnet18().children())`, all or all but the last."""
    places = {"conv1": "0", "bn1": "1", "fc": "9"}
    places |= {f"layer{i}": str(i + 3) for i in (1, 2, 3, 4)}
    state = {
        f"{places[module]}.{rest}": value
        for name, value in STATE.items()
        for module, _, rest in [name.partition(".")]
    }
    with pytest.warns(WeightsWarning, match="took '9' for the classifier"):
        loaded(model, state, tmp_path)
    body = {n: v for n, v in under("features.", state).items() if ".9." not in n}
    with pytest.warns(WeightsWarning, match="read what is under 'features.'"):
        loaded(model, body, tmp_path, head=False)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_quantized_kernels_are_refused(model, dtype, tmp_path):
    kernel = {"layer1.0.conv1.weight": STATE["layer1.0.conv1.weight"].astype(dtype)}
    with pytest.raises(WeightsError, match=r"conv1\.weight holds .* a quantized net"):
        loaded(model, STATE | kernel, tmp_path)


def test_a_variance_below_zero_is_refused(model, tmp_path):
    wrong = {"layer1.0.bn1.running_var": -STATE["layer1.0.bn1.running_var"]}
    with pytest.raises(WeightsError, match="1 below zero: conv2_block1_1_bn/moving_va"):
        loaded(model, STATE | wrong, tmp_path)


@pytest.mark.parametrize("name", ["OWN.SAFETENSORS", "own.SafeTensors"])
def test_suffixes_of_any_case(model, name, tmp_path):
    loaded(model, STATE, tmp_path, name)


def headed(names, wide=False):
    """The state with a head of other names."""
    state = {n: v for n, v in STATE.items() if not n.startswith("fc.")}
    weight, bias = STATE["fc.weight"], STATE["fc.bias"]
    if len(names) == 1:
        return state | {f"{names[0]}.weight": weight, f"{names[0]}.bias": bias}
    for name in names:
        state |= {f"{name}.weight": weight[:512, :].copy(), f"{name}.bias": bias[:512]}
    return state


@pytest.mark.parametrize(
    "names",
    [["fc.1"], ["classifier"], ["head.fc"], ["dense"], ["head"], ["fc1", "out"],
     ["projector.0", "projector.2"]],
)  # fmt: skip
def test_a_head_is_left_whatever_it_is_called(names, tmp_path):
    model = build("resnet18", input_shape=(32, 32, 3), classes=3)
    loaded(model, headed(names), tmp_path, head=False)


def test_a_head_of_one_layer_is_taken_and_said(model, tmp_path):
    with pytest.warns(WeightsWarning, match=r"took 'fc\.1' for the classifier"):
        loaded(model, headed(["fc.1"]), tmp_path)
    np.testing.assert_array_equal(model.layers[-1].kernel, STATE["fc.weight"].T)
    with pytest.raises(WeightsError, match="too much: fc1"):
        loaded(model, headed(["fc1", "out"]), tmp_path)


def test_what_a_network_has_besides_is_no_head(model, tmp_path):
    attention = {"layer1.0.se.fc1.weight": np.zeros((4, 64), "float32")}
    with pytest.raises(WeightsError, match=r"too much: layer1\.0\.se"):
        loaded(model, STATE | attention, tmp_path, head=False)
    filters = {"maxpool.filt": np.zeros((64, 1, 3, 3), "float32")}
    with pytest.raises(WeightsError, match=r"too much: maxpool\.filt"):
        loaded(model, STATE | filters, tmp_path, head=False)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.float32("nan"), "holds NaN"),
        (np.float32("inf"), "holds infinite numbers"),
        (np.complex64(1j), "holds complex64 numbers"),
    ],
)
def test_numbers_that_are_none_are_refused(model, value, message, tmp_path):
    wrong = STATE["layer2.0.bn1.weight"].astype(value.dtype)
    wrong[3] = value
    with pytest.raises(WeightsError, match=rf"layer2\.0\.bn1\.weight {message}"):
        loaded(model, STATE | {"layer2.0.bn1.weight": wrong}, tmp_path)


def test_nan_of_keras_is_refused(tiny_spec, tmp_path):
    model = build(tiny_spec)
    model.get_layer("conv1_bn").gamma.assign([1, np.nan, 1, 1])
    model.save_weights(tmp_path / "nan.weights.h5")
    with pytest.raises(WeightsError, match="conv1_bn/0 holds NaN"):
        weights.load(build(tiny_spec), tmp_path / "nan.weights.h5")


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_other_precisions_are_read(model, dtype, tmp_path):
    path = tmp_path / "own.safetensors"
    save_file({name: value.astype(dtype) for name, value in STATE.items()}, path)
    weights.load(model, path)
    kernel = STATE["conv1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_allclose(model.get_layer("conv1_conv").kernel, kernel, rtol=1e-2)


def checkpoint(**keys):
    return {name: dict(STATE) for name in keys} | {
        "epoch": 7,
        "optimizer": {
            "state": {0: {"momentum_buffer": np.zeros(3)}},
            "param_groups": [],
        },
    }


@pytest.mark.parametrize("key", state_dicts.KEYS)
def test_a_checkpoints_state_dict_is_found(key):
    found = state_dicts.find(checkpoint(**{key: 1}), SIGNS, None, "x")
    assert "conv1.weight" in found.tensors
    assert not any("num_batches" in name for name in found.tensors)
    assert not found.chosen


def test_of_two_state_dicts_the_first_is_read_and_said():
    content = checkpoint(state_dict=1, state_dict_ema=1)
    content["state_dict_ema"]["conv1.weight"] = STATE["conv1.weight"] + 1
    found = state_dicts.find(content, SIGNS, None, "x")
    assert found.chosen == ["read key 'state_dict'; there is state_dict_ema too (key=)"]
    chosen = state_dicts.find(content, SIGNS, "state_dict_ema", "x").tensors
    np.testing.assert_array_equal(chosen["conv1.weight"], STATE["conv1.weight"] + 1)


def test_keys_that_are_there_are_named():
    content = {"nets": {"a": dict(STATE), "b": dict(STATE)}, "epoch": 1}
    with pytest.raises(WeightsError, match=r"by key=: nets$"):
        state_dicts.find(content, SIGNS, None, "x")
    with pytest.raises(WeightsError, match=r"keys of dicts with tensors are: a, b"):
        state_dicts.find(content, SIGNS, "nets.c", "x")
    assert state_dicts.find(content, SIGNS, "nets.b", "x").tensors
    with pytest.raises(WeightsError, match=r"holds no state dict of tensors$"):
        state_dicts.find({"epoch": 1}, SIGNS, None, "x")


def test_averaged_models_counters_are_left_out():
    averaged = under("module.") | {"n_averaged": np.zeros((), np.int64)}
    found = state_dicts.find(averaged, SIGNS, None, "x").tensors
    assert "n_averaged" not in found
    assert "conv1.weight" in found


def test_akamasters_files():
    state = draw(PEERS["torch cifar20"]["shapes"])
    content = {"state_dict": under("module.", state), "best_prec1": 91.7}
    found = state_dicts.find(content, SIGNS, None, "resnet20.th").tensors
    spec = get_spec("cifar_resnet20")
    dialect = dialects.dialect_of(found, spec, "resnet20.th")
    arrays, left = dialects.from_torch(found, spec, dialect, "resnet20.th")
    assert not left
    assert "predictions" in arrays


def test_timms_small_preactivated_networks_are_refused(tmp_path):
    """Their first unit adds its input before the activation."""
    spec = get_spec(
        "keras_resnet50_v2", stride_at="first", stem_pool_pad="minus_inf",
        bn_epsilon=1e-5, block="basic", depths=(2, 2, 2, 2), widths=(64, 128, 256, 512),
        input_shape=(64, 64, 3),
    )  # fmt: skip
    tensors = {"stages.0.blocks.0.norm1.weight": np.ones(64, "float32")}
    save_file(tensors, tmp_path / "v2.safetensors")
    with pytest.raises(WeightsError, match="adds its input before the activation"):
        weights.load(build(spec), tmp_path / "v2.safetensors")


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".h5"])
def test_layers_of_nested_models_keep_their_names(suffix, tiny_spec, tmp_path):
    inner = build(tiny_spec, include_top=False, pooling="avg")
    random = np.random.default_rng(0)
    inner.set_weights([random.uniform(0.1, 1, w.shape) for w in inner.weights])
    image = keras.Input((8, 8, 1))
    outer = keras.Model(image, keras.layers.Dense(3, name="mine")(inner(image)))
    path = tmp_path / f"nested{suffix}"
    (outer.save_weights if suffix == ".weights.h5" else outer.save)(path)
    held = keras_files.read(path).arrays
    assert {layer.name for layer in inner.layers if layer.weights} <= held.keys()
    new = build(tiny_spec)
    weights.load(new, path, head=False)
    for layer in inner.layers:
        for a, b in zip(
            layer.get_weights(), new.get_layer(layer.name).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(a, b)
    again = keras.models.clone_model(outer)
    weights.load(again, path)
    np.testing.assert_array_equal(again.layers[-1].kernel, outer.layers[-1].kernel)


def keras_2(name):
    """The name of a layer in Keras 2's ResNet-50."""
    if name in ("conv1_conv", "conv1_bn", "predictions"):
        return {"conv1_conv": "conv1", "conv1_bn": "bn_conv1"}.get(name, "fc1000")
    stage, block, place, kind = name.split("_")
    letter = "abcdef"[int(block.removeprefix("block")) - 1]
    branch = "1" if place == "0" else "2" + "abc"[int(place) - 1]
    which = "res" if kind == "conv" else "bn"
    return f"{which}{stage.removeprefix('conv')}{letter}_branch{branch}"


def test_keras_2s_names(tmp_path):
    spec = get_spec("keras_resnet50", input_shape=(32, 32, 3), bn_epsilon=1e-3)
    old, new = build(spec), build(spec)
    random = np.random.default_rng(0)
    old.set_weights([random.uniform(0.1, 1, w.shape) for w in old.weights])
    path = tmp_path / "resnet50.h5"
    with h5py.File(path, "w") as file:
        layers = {keras_2(each.name): each for each in old.layers if each.weights}
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for name, layer in layers.items():
            group = file.create_group(name)
            keys = [f"{name}/{weight.name}:0" for weight in layer.weights]
            group.attrs["weight_names"] = [key.encode() for key in keys]
            for key, value in zip(keys, layer.get_weights(), strict=True):
                group[key] = value
    weights.load(new, path)
    for a, b in zip(old.get_weights(), new.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for changes, message in (
        ({"bn_epsilon": 1.001e-5}, "conv1_bn epsilon 0.001 for 1.001e-05"),
        ({"stride_on": "3x3"}, r"conv3_block1_1_conv strides \(2, 2\) for \(1, 1\)"),
    ):
        with pytest.raises(WeightsError, match=message):
            weights.load(build(spec, **changes), path)


def test_a_head_is_all_outside_the_stages(tiny_spec):
    old = build(tiny_spec)
    backbone = build(tiny_spec, include_top=False, pooling="avg")
    model = keras.Model(backbone.inputs, keras.layers.Dense(2)(backbone.output))
    before = model.layers[-1].get_weights()
    weights.load(model, old, head=False)
    for a, b in zip(before, model.layers[-1].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(WeightsError, match="has no stages to load into"):
        weights.load(keras.Sequential([keras.layers.Dense(2)]), old, head=False)
    with pytest.raises(WeightsError, match="doesn't fit"):
        weights.load(build(cifar_resnet(8)), old)
