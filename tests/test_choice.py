from __future__ import annotations

import shlex

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from keras_resnet.cli import main, options
from keras_resnet.run import Run
from keras_resnet.training import choice
from keras_resnet.training.choice import choose


def photos(place, side, count=12):
    """Two classes of noise, of sizes around a side."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (place / name).mkdir(parents=True)
        for i in range(count):
            pixels = random.integers(0, 256, (side, side + i % 2, 3))
            path = place / name / f"{i}.png"
            Image.fromarray(pixels.astype("uint8")).save(path)
    return f"folder:{place}"


def resolved(source, chosen):
    """The recipe that options of the command line stand for."""
    given = {**chosen, "assignments": tuple(chosen.get("assignments", ()))}
    return options.Training(data=source, **given).resolve()


@pytest.mark.parametrize(
    ("side", "network", "size"),
    [(24, "cifar_resnet20", 24), (80, "resnet34", 80), (300, "resnet34", 224)],
)
def test_the_options_say_what_was_chosen(tmp_path, side, network, size):
    source = photos(tmp_path / "photos", side)
    found = choose(source, devices=("CPU", 8))
    assert (found.recipe.model.name, found.recipe.image_size) == (network, size)
    assert found.weights is None
    assert len(found.reasons) == 3
    recipe, data = resolved(source, found.options)
    assert data == source
    assert recipe.differences(found.recipe.to_dict()) == []


def test_more_images_than_an_hour_has_time_for_take_a_smaller_network(
    tmp_path, monkeypatch
):
    source = photos(tmp_path / "photos", 240)
    monkeypatch.setattr(choice, "HOURS", 0.05)
    found = choose(source, devices=("CPU", 1))
    assert (found.recipe.model.name, found.recipe.image_size) == ("resnet18", 96)
    monkeypatch.setattr(choice, "HOURS", 0.0)
    assert choose(source).recipe.image_size == 64


def test_weights_that_are_here_are_taken(tmp_path, monkeypatch):
    source = photos(tmp_path / "photos", 90)
    monkeypatch.setenv("KERAS_RESNET_CACHE", str(tmp_path))
    monkeypatch.setattr(choice.download, "cache_folder", lambda: tmp_path)
    name = "torchvision/resnet18.IMAGENET1K_V1"
    choice._file(name).write_bytes(b"")
    found = choose(source)
    assert (found.recipe.name, found.weights) == ("finetune", name)
    assert found.options == {"recipe": "finetune", "weights": name}
    assert choose(source, weights="runs/mine").weights == "runs/mine"


def test_a_resumed_run_takes_its_own_choice(tmp_path):
    source = photos(tmp_path / "photos", 20)
    folder = tmp_path / "run"
    asked = ["--set", "augment.pad=1", "--set", "epochs=3", "--smoke", "--no-track"]
    command = ["train", "--data", source, *asked, "--folder"]
    first = CliRunner().invoke(main, [*command, str(folder)], catch_exceptions=False)
    assert "chosen    24 images of several sizes, 2 classes" in first.output
    [same] = [line for line in first.output.splitlines() if "the same" in line]
    words = shlex.split(same)[2:]
    expected = (
        f"keras-resnet train --recipe folder --model cifar_resnet20 --data {source}"
    )
    assert words[:8] == expected.split()
    sized = ["--image-size", "20", "--set", 'augment={"pad": 2, "flip": true}']
    assert sorted(words[8:]) == sorted([*sized, *asked, "--folder", str(folder)])
    assert ", 3 epochs" in first.output
    (folder / "result.json").unlink()
    kept = choose(source, folder=folder)
    assert kept.recipe == Run(folder).recipe
    assert kept.reasons == (f"as the run in {folder} was begun",)
