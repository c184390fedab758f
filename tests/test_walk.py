"""A walk through the README: its commands, on small photos and in few steps."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import ROOT
from images import write_folder
from PIL import Image

from keras_resnet.cli import main

SMALL = "--smoke --no-track"


class Step(NamedTuple):
    """A command of the README, as it is walked.

    Attributes:
        command: as the README has it.
        more: options that make it small.
        leaves: files that are there after it.
        says: what it prints.
        instead: words in place of others, where those are not to be had here.
    """

    command: str
    more: str = ""
    leaves: str = ""
    says: str = ""
    instead: tuple[str, str] = ("", "")


WALK = (
    Step(
        "train --recipe folder --data folder:photos --folder runs/mine",
        SMALL,
        "runs/scratch/best.keras runs/scratch/recipe.json runs/scratch/augmented.png",
        instead=("runs/mine", "runs/scratch"),
    ),
    Step(
        "train --recipe finetune --weights torchvision/resnet50.IMAGENET1K_V2 "
        "--data folder:photos --folder runs/mine",
        "--epochs 1 --image-size 32 --no-track",
        "runs/mine/history.jsonl runs/mine/curves.png runs/mine/confusion.png "
        "runs/mine/mistakes.png runs/mine/calibration.png runs/mine/report.html "
        "runs/mine/export/1/saved_model.pb",
        "test accuracy",
        instead=("torchvision/resnet50.IMAGENET1K_V2", "runs/scratch"),
    ),
    Step("evaluate runs/mine", says="test accuracy"),
    Step("explain runs/mine --image photo.jpg", "", "runs/mine/explained/lesions.png"),
    Step("predict runs/mine photo.jpg", says="photo.jpg: "),
    Step("export runs/mine --to models/mine", "", "models/mine/1/saved_model.pb"),
    Step(
        "push runs/mine me/flowers --licence apache-2.0",
        "--dry-run pushed",
        "pushed/README.md pushed/model.keras",
    ),
    Step(
        "tune --space wide --budget 40MMAC --folder runs/wide",
        "--trials 1 --epochs 1 --no-track",
        "runs/wide/best.json runs/wide/report/README.md",
        "of 1 trial (1 completed)",
    ),
    Step("profile resnet50", says="25,557,032"),
    Step("compare --budget 4.1GMAC", says="published: "),
    Step("show resnext50_32x4d --diagram resnext.svg", "", "resnext.svg"),
    Step("experiment list", says="degradation"),
)
ELSEWHERE = {
    "serve models/mine": "below",
    "client photo.jpg --url http://localhost:8501/mine": "below",
    "convert resnet50d.safetensors mine.keras --model resnet50_d --classes 5":
    "weights",
    "convert timm/resnet50d.ra2_in1k mine.keras": "hub",
    "tune --space resnext --budget 40MMAC --over iso --workers 4 --folder runs/shapes":
    "tuning_processes",
    "experiment run degradation --budget smoke": "experiments",
    "experiment report degradation --budget smoke": "experiments",
}  # fmt: skip


def commands(page: Path) -> list[str]:
    """The commands in a page's blocks."""
    blocks = re.findall(r"^```([^\n]*)\n(.*?)^```", page.read_text(), re.S | re.M)
    shell = "".join(code for title, code in blocks if not title)
    lines = re.sub(r"\\\n\s*", "", shell).splitlines()
    bare = [re.sub(r"\s+#.*", "", line) for line in lines]
    start = "keras-resnet "
    return [line.removeprefix(start) for line in bare if line.startswith(start)]


def test_every_command_of_the_readme_is_walked():
    known = {step.command for step in WALK} | ELSEWHERE.keys()
    assert set(commands(ROOT / "README.md")) == known
    for place in ELSEWHERE.values():
        assert place == "below" or (ROOT / "tests" / f"test_{place}.py").exists()


@pytest.mark.slow
def test_the_readme_as_its_reader_does_it(workplace):
    write_folder(workplace / "photos", {"cat": 40, "dog": 40}, (48, 40), form="jpg")
    noise = np.random.default_rng(0).integers(0, 256, (60, 50, 3), np.uint8)
    Image.fromarray(noise).save("photo.jpg")
    for step in WALK:
        words = f"{step.command.replace(*step.instead)} {step.more}".split()
        done = CliRunner().invoke(main, words, catch_exceptions=False)
        assert done.exit_code == 0, (words, done.output)
        assert step.says in done.stdout, words
        for file in step.leaves.split():
            assert Path(file).is_file(), (words, file)
    served = [sys.executable, "-m", "keras_resnet.cli", "serve", "models/mine"]
    free = ["--rest-port", "0", "--grpc-port", "0", "--json"]
    with subprocess.Popen(
        [*served, *free], stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            urls = json.loads(server.stdout.readline())
            for url in urls.values():
                asked = CliRunner().invoke(main, ["client", "photo.jpg", "--url", url])
                assert asked.exit_code == 0, asked.output
                assert re.match(r"photo\.jpg: (cat|dog) \d", asked.stdout)
        finally:
            server.terminate()
