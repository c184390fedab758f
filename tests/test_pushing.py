"""Runs on the hub: what is written, sent and read back."""

from __future__ import annotations

import json

import hub_server
import keras
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from safetensors.numpy import load_file

from keras_resnet import cifar_resnet, get_spec, training, weights
from keras_resnet.cli import main
from keras_resnet.errors import RunFolderError
from keras_resnet.weights import WeightsError, model_card, pushing

TOKEN = "hf_secretsecret"


def train(folder, model, side):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (60, side, side, 3)).astype("uint8")
    recipe = training.get_recipe("digits").over(1)
    recipe = recipe.replace(model=model, warmup_epochs=0, source="A | test\nof lines")
    training.train(
        recipe, data=(images, np.arange(60) % 5), folder=folder, export=False
    )
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A run of a network that timm lacks."""
    model = cifar_resnet(8, stem_width=4, widths=(4, 8, 8))
    return train(tmp_path_factory.mktemp("small") / "run", model, 8)


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory):
    """A run of one that it has."""
    return train(tmp_path_factory.mktemp("large") / "run", get_spec("resnet18"), 32)


def card_of(folder):
    _, header, body = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(header), body


def test_a_dry_run_leaves_the_files_in_a_folder(small, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    target = tmp_path / "out"
    arguments = ["push", str(small), "me/flowers", "--dry-run", str(target)]
    done = CliRunner().invoke(main, [*arguments, "--licence", "apache-2.0"])
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in target.iterdir()) == [
        "README.md", "calibration.png", "confusion.png", "curves.png", "model.keras",
        "network.svg", "recipe.json",
    ]  # fmt: skip
    header, body = card_of(target)
    assert header["license"] == "apache-2.0"
    assert header["library_name"] == "keras"
    result = json.loads((small / "result.json").read_text())
    [row] = header["model-index"][0]["results"][0]["metrics"]
    assert row == {"type": "accuracy", "value": result["test_accuracy"]}
    data = json.loads((small / "data.json").read_text())
    assert str(data["fingerprint"]) in body
    for path in target.iterdir():
        assert TOKEN.encode() not in path.read_bytes()
        assert str(small).encode() not in path.read_bytes()
    model = keras.models.load_model(target / "model.keras")
    assert model.output_shape == (None, 5)
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 2
    assert "exists; name a new folder" in again.output


@pytest.mark.slow
def test_what_timm_has_is_written_for_timm(resnet18, tmp_path):
    target = tmp_path / "out"
    weights.push(resnet18, "me/flowers", dry_run=target)
    config = json.loads((target / "config.json").read_text())
    assert config["architecture"] == "resnet18"
    assert config["num_classes"] == 5
    assert config["pretrained_cfg"]["input_size"] == [3, 32, 32]
    tensors = load_file(target / "model.safetensors")
    assert tensors["fc.weight"].shape == (5, 512)
    assert "timm.create_model" in card_of(target)[1]


def test_folders_that_hold_no_published_weights_are_told_apart(resnet18, tmp_path):
    pushing.push(resnet18, "me/flowers", dry_run=tmp_path / "hub")
    with pytest.raises(WeightsError, match=r"name .*model\.safetensors"):
        weights.pretrained(str(tmp_path / "hub"))
    with pytest.raises(WeightsError, match=r"is a run; keras\.models\.load_model"):
        weights.pretrained(str(resnet18 / "best.keras"))


@pytest.mark.slow
def test_a_run_is_sent_and_read_back(resnet18, small, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    root = tmp_path / "hub"
    root.mkdir()
    x = np.random.default_rng(1).integers(0, 256, (4, 32, 32, 3)).astype("uint8")
    with (
        hub_server.served(root) as hub,
        hub_server.addressed(hub, tmp_path / "cache"),
    ):
        address = weights.push(resnet18, "me/flowers", licence="mit")
        assert address == f"{hub.url}/me/flowers"
        assert any(token == f"Bearer {TOKEN}" for *_, token in hub.seen)
        found = weights.pretrained("hf:me/flowers")
        assert found.class_names == ("0", "1", "2", "3", "4")
        own = keras.models.load_model(resnet18 / "best.keras")
        np.testing.assert_allclose(
            found.predict(x, verbose=0), own.predict(x, verbose=0), atol=1e-4
        )
        weights.push(small, "me/small")
        whole = weights.pretrained("hf:me/small")
        assert whole.output_shape == (None, 5)


def test_what_cannot_be_sent_is_a_line(small, tmp_path, monkeypatch):
    for repository in ("flowers", "me/you/flowers", "me/../x"):
        with pytest.raises(WeightsError, match="is not OWNER/NAME"):
            weights.push(small, repository)
    with pytest.raises(RunFolderError, match="is not a run folder"):
        weights.push(tmp_path, "me/flowers")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "none"))
    (tmp_path / "hub").mkdir()
    with (
        hub_server.served(tmp_path / "hub") as hub,
        hub_server.addressed(hub, tmp_path / "cache"),
        pytest.raises(WeightsError, match="log in by `hf auth login`") as error,
    ):
        weights.push(small, "me/flowers")
    assert "\n" not in str(error.value)


def test_unfinished_runs_are_not_sent(small, tmp_path):
    import shutil

    shutil.copytree(small, tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(RunFolderError, match="is unfinished"):
        weights.push(tmp_path / "run", "me/flowers")


def test_intervals_are_wilsons():
    """Newcombe 1998, Table I: 81 of 263, 15 of 148, 0 of 20."""
    for successes, images, expected in (
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
    ):
        found = model_card.interval(successes / images, images)
        assert found == pytest.approx(expected, abs=1e-4)


def test_timms_names_of_networks():
    names = {
        "resnet18": "resnet18",
        "resnet50_v1_5": "resnet50",
        "resnet50_d": "resnet50d",
        "wide_resnet50_2": "wide_resnet50_2",
        "resnext101_32x8d": "resnext101_32x8d",
        "resnet50": None,  # strides on the 1x1
        "keras_resnet50_v2": None,
        "cifar_resnet20": None,
        "plain18": None,
    }
    for preset, name in names.items():
        assert pushing.architecture_of(get_spec(preset, classes=3)) == name
    dropping = get_spec("resnet50_v1_5", survival=0.8)
    assert pushing.architecture_of(dropping) is None
    by_image = dropping.replace(survival_mode="sample")
    assert pushing.architecture_of(by_image) == "resnet50"
