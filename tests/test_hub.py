"""Weights from the Hugging Face Hub: its real client, a server of its protocol."""

from __future__ import annotations

import json
import re
import socket
import sys
import time

import hub_server
import numpy as np
import pytest
from click.testing import CliRunner
from huggingface_hub import constants
from peers import RECORDED, SIDE, draw, images
from safetensors.numpy import save_file

from keras_resnet import build, cifar_resnet, weights
from keras_resnet.cli import main
from keras_resnet.weights import WeightsError, descriptions, hub, origins
from keras_resnet.weights.architectures import ARCHITECTURES

PEERS = json.loads(RECORDED.read_text())
RESNET18 = draw(PEERS["torchvision resnet18"]["shapes"])


def config(architecture="resnet18", **changes):
    """As timm writes it."""
    return {
        "architecture": architecture,
        "num_classes": 1000,
        "num_features": 512,
        "pretrained_cfg": {
            "input_size": [3, 224, 224],
            "test_input_size": [3, SIDE, SIDE],
            "interpolation": "bicubic",
            "crop_pct": 0.95,
            "test_crop_pct": 0.8,
            "mean": [0.5, 0.4, 0.3],
            "std": [0.25, 0.2, 0.1],
        },
    } | changes


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """timm/resnet18.ra_in1k, and the same weights as the file of another name."""
    root = tmp_path_factory.mktemp("hub")
    for name in ("timm/resnet18.ra_in1k", "timm/resnet18.tv_in1k", "me/mine"):
        folder = root / name
        folder.mkdir(parents=True)
        save_file(RESNET18, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(config()))
    return root


@pytest.fixture
def server(files, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # whoever imports it fails
    with (
        hub_server.served(files) as served,
        hub_server.addressed(served, tmp_path / "cache"),
    ):
        yield served


def downloads(server):
    return [path for method, path, *_ in server.seen if method == "GET"]


def test_a_repository_of_timms_is_read_whole(server):
    model = weights.pretrained("timm/resnet18.ra_in1k")
    assert model.input_shape == (None, SIDE, SIDE, 3)
    found = model.get_layer("conv1_conv").kernel
    np.testing.assert_array_equal(found, RESNET18["conv1.weight"].transpose(2, 3, 1, 0))
    described = origins.find("hf:timm/resnet18.ra_in1k@v1").described
    assert described.mean == pytest.approx((127.5, 102, 76.5))
    assert (described.size, described.resize) == (SIDE, SIDE / 0.8)
    count = len(downloads(server))
    weights.pretrained("timm/resnet18.ra_in1k", classes=3)
    assert len(downloads(server)) == count  # from the cache


@pytest.mark.slow
def test_logits_are_timms(server):
    """Its images are normalized outside, ours inside."""
    model = weights.pretrained("hf:me/mine")
    described = origins.find("hf:me/mine").described
    pixels = images() * described.std + described.mean
    expected = np.array(PEERS["torchvision resnet18"]["logits"])
    found = model.predict(pixels, verbose=0)[:, : expected.shape[1]]
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


TRANSFORMERS = {
    "model_type": "resnet",
    "architectures": ["ResNetForImageClassification"],
    "layer_type": "basic",
    "depths": [2, 2, 2, 2],
    "hidden_sizes": [64, 128, 256, 512],
    "embedding_size": 64,
    "id2label": {str(i): f"class {i}" for i in range(1000)},
}
PROCESSOR = {
    "crop_pct": 0.875,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.25, 0.2, 0.1],
    "resample": 3,
    "size": {"shortest_edge": SIDE},
}


def transformers_name(name):
    """What transformers calls a tensor of torchvision's ResNet-18."""
    kinds = {"conv": "convolution", "bn": "normalization"}
    if name.startswith("fc."):
        return f"classifier.1.{name[3:]}"
    if match := re.match(r"(conv|bn)1\.(.*)", name):
        return f"resnet.embedder.embedder.{kinds[match[1]]}.{match[2]}"
    match = re.match(r"layer(.)\.(.)\.(?:(conv|bn)(.)|downsample\.(.))\.(.*)", name)
    stage, unit, kind, number, place, rest = match.groups()
    part = f"layer.{int(number) - 1}" if kind else "shortcut"
    kind = kinds[kind] if kind else list(kinds.values())[int(place)]
    return f"resnet.encoder.stages.{int(stage) - 1}.layers.{unit}.{part}.{kind}.{rest}"


def test_a_repository_of_transformers_is_read(server, files):
    folder = files / "me" / "transformers"
    folder.mkdir(exist_ok=True)
    tensors = {transformers_name(name): value for name, value in RESNET18.items()}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(TRANSFORMERS))
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    model = weights.pretrained("hf:me/transformers")
    assert model.class_names[7] == "class 7"
    described = origins.find("hf:me/transformers").described
    assert (described.size, described.resize) == (SIDE, round(SIDE / 0.875))
    pixels = images() * described.std + described.mean
    expected = np.array(PEERS["torchvision resnet18"]["logits"])
    found = model.predict(pixels, verbose=0)[:, : expected.shape[1]]
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"downsample_in_bottleneck": True}, "downsample_in_bottleneck True"),
        ({"hidden_sizes": [32, 64, 128, 256]}, "hidden_sizes"),
        ({"depths": [1, 1, 1, 1]}, "basic units with depths"),
        ({"layer_type": None}, "units with depths"),
    ],
)
def test_transformers_networks_that_timm_has_not(changes, message):
    with pytest.raises(WeightsError, match=message):
        descriptions.described(TRANSFORMERS | changes, "hf:me/mine", PROCESSOR)


def test_a_name_of_torchvisions_reads_the_hubs_file(server):
    row = weights.published("torchvision/resnet18.IMAGENET1K_V1")
    assert row.fetch().name == "model.safetensors"
    assert any("timm/resnet18.tv_in1k" in path for path in downloads(server))


def test_every_name_has_a_repository_but_kerass():
    for name, row in weights.PUBLISHED.items():
        assert bool(row.hub) == (not name.startswith("keras/"))
        if row.hub:
            architecture = row.hub.removeprefix("timm/").partition(".")[0]
            spec = descriptions.described(config(architecture), name).spec
            other = row.describe().spec
            same = {"name": "x", "input_shape": other.input_shape}
            assert spec.replace(**same) == other.replace(**same)


def test_a_broken_download_is_continued(server):
    server.faults["me/mine/model.safetensors"] = "cut"
    hub.Repository("me/mine").fetch("model.safetensors")
    ranges = [r for method, path, r, _ in server.seen if r and "safetensors" in path]
    assert ranges  # only the rest was asked for


def test_a_redirected_file_is_fetched_without_the_token(server, monkeypatch):
    server.faults["me/mine/model.safetensors"] = "redirect"
    hub.Repository("me/mine").fetch("model.safetensors")
    assert any(path.startswith("/cdn/") for path in downloads(server))


def test_a_wrong_file_is_refused_and_deleted(server, tmp_path):
    server.faults["me/mine/model.safetensors"] = "wrong"
    with pytest.raises(WeightsError, match="is not the file that the hub names"):
        hub.Repository("me/mine").fetch("model.safetensors")
    server.faults.clear()
    hub.Repository("me/mine").fetch("model.safetensors")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (401, "answers 401: log in by"),
        ("gated", "hf:me/mine is gated: ask for access at"),
        (429, "answers 429: too many requests"),
        (500, "answers 500: try again later"),
    ],
)
def test_what_the_hub_refuses_is_a_line(server, fault, message):
    server.faults["me/mine"] = fault
    began = time.monotonic()
    with pytest.raises(WeightsError, match=message) as error:
        weights.pretrained("hf:me/mine")
    assert "\n" not in str(error.value)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:me/nothing", "has no me/nothing, or it is private"),
        ("hf:me/mine@v9", "has no revision 'v9'"),
        ("hf:mine", "is not hf:OWNER/NAME"),
        ("hf:me/../../etc", "is not hf:OWNER/NAME"),
        ("timm/resnet19.a1_in1k", "closest: resnet"),
        ("timm/vit_base_patch16_224.x", "no residual network of timm's"),
        ("timm/seresnet50.ra2_in1k", "which has squeeze-and-excitation: no spec"),
        ("timm/resnet50_gn.a1h_in1k", "group norm"),
        ("timm/resnetv2_50x1_bit.goog_in21k", "weight standardization"),
        ("timm/resnetaa50.a1h_in1k", "against aliasing"),
        ("timm/resnetblur50.bt_in1k", "against aliasing"),
        ("timm/resnetv2_18.ra4_e3600_r224_in1k", "before the activation"),
        ("timm/ecaresnet50d.miil_in1k", "attention"),
        ("timm/resnet26t.ra2_in1k", "a stem of 24, 32 and 64"),
    ],
)
def test_what_is_not_there_or_not_expressed_is_a_line(server, name, message):
    with pytest.raises(WeightsError, match=message) as error:
        weights.pretrained(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "resnetaa50d"}, "against aliasing"),
        ({"model_args": {"block_args": {}}}, "resnet18 with block_args, which no spec"),
        ({"architecture": None, "model_type": "vit"}, "transformers' vit"),
        ({"pretrained_cfg": {}}, "is not whole"),
        ({"label_names": ["a", "b"]}, "has 2 label_names for 1000 classes"),
        ({"num_classes": 2, "label_names": ["a", "a"]}, "0 and 1 have one name, 'a'"),
    ],
)
def test_configurations_that_no_spec_expresses(changes, message):
    with pytest.raises(WeightsError, match=message):
        descriptions.described(config(**changes), "hf:me/mine")


def test_a_configuration_decides():
    arguments = {"in_chans": 1, "num_classes": 5, "output_stride": 8, "drop_rate": 0.1}
    spec = descriptions.described(config("resnet50", model_args=arguments), "x").spec
    assert spec.input_shape == (SIDE, SIDE, 1)
    assert (spec.classes, spec.output_stride) == (5, 8)
    names = {"num_classes": 2, "label_names": ["n1", "n2"]}
    for told, expected in (("tench", ("tench", "n2")), ("n2", ("n1", "n2"))):
        named = config(**names, label_descriptions={"n1": told})
        assert descriptions.described(named, "x").class_names == expected


def test_every_architecture_is_a_network():
    for name in ARCHITECTURES:
        assert descriptions.described(config(name), name).spec.name == name


def test_without_a_network_the_cache_is_used(server, monkeypatch):
    weights.pretrained("hf:me/mine", include_top=False)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{probe.getsockname()[1]}"
    template = f"{closed}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "ENDPOINT", closed)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    began = time.monotonic()
    weights.pretrained("hf:me/mine", include_top=False)
    for offline in (False, True):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
        with pytest.raises(WeightsError) as error:
            weights.pretrained("timm/resnet18.ra_in1k")
        message = str(error.value)
        assert (
            "hf download timm/resnet18.ra_in1k config.json model.safetensors" in message
        )
        assert "models--timm--resnet18.ra_in1k" in message
        assert ("HF_HUB_OFFLINE is set" in message) is offline
        assert "\n" not in message
    assert time.monotonic() - began < 20


@pytest.mark.slow
def test_the_readmes_first_command_needs_no_torch(server, workplace):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (60, 32, 32, 3)).astype("uint8")
    np.savez("photos.npz", images=images, labels=np.arange(60) % 3)
    done = CliRunner().invoke(
        main,
        [
            "train", "--recipe", "finetune", "--no-track", "--folder", "runs/mine",
            "--weights", "torchvision/resnet18.IMAGENET1K_V1", "--data", "photos.npz",
            "--image-size", "32", "--epochs", "1",
        ],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    recipe = json.loads((workplace / "runs/mine/recipe.json").read_text())
    assert (recipe["model"]["name"], recipe["model"]["classes"]) == ("resnet18", 3)
    described = json.loads((workplace / "runs/mine/data.json").read_text())
    assert "model.safetensors sha256:" in described["weights"]


def test_convert_takes_a_repository(server, tmp_path):
    target = tmp_path / "mine.weights.h5"
    done = CliRunner().invoke(main, ["convert", "hf:me/mine", str(target)])
    assert done.exit_code == 0, done.output
    weights.load(build("resnet18"), target)


def test_no_token_is_in_a_message(server, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    server.faults["me/mine"] = 401
    with pytest.raises(WeightsError) as error:
        weights.load(build(cifar_resnet(8)), "hf:me/mine")
    assert any(token == "Bearer hf_secretsecret" for *_, token in server.seen)
    assert "secret" not in str(error.value)
