"""What a mistake costs: seconds until a command has said what is wrong.

    python -m benchmarks.mistakes [--repeats N]

Each is a process of its own, in a folder with photos, a file that is none, and a run;
the least of some repeats. All end with one line, before TensorFlow is loaded.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
from PIL import Image

from benchmarks import options, report
from keras_resnet.recipes import get_recipe

MISTAKES = {
    "a folder that isn't there": "train --data folder:fotos",
    "a folder without its kind": "train --data photos",
    "photos in no folders of classes": "train --data folder:photos/cat",
    "a preset that isn't one": "train --model resnet51",
    "a network too large for its images": "train --model resnet50",
    "a field that isn't one": "train --set learning_rat=0.1",
    "weights that aren't one": "train --weights torchvision/resnet51",
    "a folder that holds something else": "train --folder photos",
    "an image that isn't one": "predict runs/mine notes.txt",
    "a run that isn't one": "evaluate runs/mein",
    "a space that isn't one": "tune --space wied",
    "a budget that isn't one": "tune --budget 40",
    "a budget that nothing meets": "tune --budget 1kMAC",
    "a data set that isn't one": "train --data tfds:mnisty",
    "another's network": "convert runs/mine mine.keras --model resnet18",
    "a version and a label": "client photo.png --url grpc://h/x --version 1 --label a",
    "a format that isn't one": "export runs/mine --format tflite",
    "a model's folder without versions": "serve models/mine",
    "a server's address without a name": "client photo.png --url http://localhost:8501",
}
COLUMNS = {
    "mistake": ("case", ""),
    "command": ("command", ""),
    "s": ("seconds", ".2f"),
    "says": ("says", ""),
}


@click.command()
@options.repeats(3)
@options.out()
def main(repeats: int, out: Path) -> None:
    """Time the commonest mistakes."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        _furnish(place)
        records = [
            {"case": what, "command": command, **_time(place, command, repeats)}
            for what, command in MISTAKES.items()
        ]
    worst = max(records, key=lambda record: record["seconds"])
    note = f"The longest takes {worst['seconds']:.2f} s."
    report.publish(out, "Mistakes", COLUMNS, records, note)


def _furnish(place: Path) -> None:
    """Photos, a text, and what a run has before it is trained."""
    for name in ("photos/cat/1.png", "photos/dog/1.png", "photo.png"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32)).save(place / name)
    (place / "notes.txt").write_text("no image")
    run = place / "runs" / "mine"
    run.mkdir(parents=True)
    (run / "recipe.json").write_text(get_recipe("digits").to_json())
    (run / "best.keras").touch()


def _time(place: Path, command: str, repeats: int) -> dict[str, object]:
    """The least seconds of a command that is refused, and what it says."""
    least = float("inf")
    for _ in range(repeats):
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "keras_resnet.cli", *command.split()],
            cwd=place,
            capture_output=True,
            text=True,
            check=False,
        )
        least = min(least, time.perf_counter() - begun)
        says = done.stderr.strip().replace(f"{place}/", "")
        if done.returncode not in (1, 2) or not says.startswith("Error: "):
            raise SystemExit(f"{command}: not refused in one line: {says}")
    return {"seconds": least, "says": says.removeprefix("Error: ")[:60]}


if __name__ == "__main__":
    main()
