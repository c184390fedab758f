"""Runs that are killed and started again until they end; and what they end with.

    killed = survive(command, [mid_write(folder), after(0.5, folder)], folder)
    assert differences(folder, another_folder) == []

A command is any that continues its run folder when it is given again. As a command
itself it trains a run with dropout, stochastic depth, augmentation and a schedule
twice, once whole and once with kills, and prints what came of it:

    python tests/kills.py --kills 20 --seed 0
    python tests/kills.py --kills 20 --source folder --network wrn

Or it searches with workers, and kills chief, workers and the process that starts them,
whichever comes; no trial may be lost, and none trained twice:

    python tests/kills.py --search --kills 20 --workers 2 --trials 12
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from keras_resnet import files
from keras_resnet.run import BEST, HISTORY

Moment = Callable[[], bool]  # whether it has come; asked all the time
PAUSE = 0.0005  # seconds between two looks


def train_command(recipe: Path, data: str, folder: Path, *options: str) -> list[str]:
    """Trains, with a checkpoint after each step."""
    return [
        sys.executable, "-m", "keras_resnet.cli", "train", "--no-track",
        "--recipe", str(recipe), "--data", data, "--folder", str(folder),
        "--checkpoint-minutes", "0", *options,
    ]  # fmt: skip


def survive(
    command: Sequence[str],
    moments: Iterable[Moment],
    folder: Path,
    timeout: float = 900.0,
) -> list[str]:
    """Kills a command by SIGKILL at each moment, and lets it end at last.

    Args:
        command: started again after each kill.
        moments: one for each kill; None is left out once the command has ended.
        folder: the run folder.
        timeout: seconds for each start.

    Returns:
        Where each kill found the run: its last checkpoint, and what was half written.

    Raises:
        RuntimeError: the command failed by itself, or took too long.
    """
    found = []
    for moment in [*moments, None]:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        deadline = time.monotonic() + timeout
        try:
            while process.poll() is None and not (moment and moment()):
                if time.monotonic() > deadline:
                    raise RuntimeError(f"not ended in {timeout:g} s: {command}")
                time.sleep(PAUSE if moment else 0.1)
        finally:
            ended = process.returncode is not None
            process.kill()
            _, errors = process.communicate()
        if process.returncode > 0:
            raise RuntimeError(errors.decode()[-2000:])
        if ended and process.returncode == 0:
            break
        found.append(_place(folder))
    return found


def written(folder: Path) -> Moment:
    """Once the process has written a checkpoint."""
    return _since_start(folder, lambda since: True)


def after(seconds: float, folder: Path) -> Moment:
    """So long after the process' first checkpoint."""
    return _since_start(folder, lambda since: since >= seconds)


def mid_write(folder: Path) -> Moment:
    """While a file of the run is half written, after the first checkpoint."""
    return _since_start(folder, lambda since: bool(_halves(folder)))


def drawn(folder: Path, count: int, seed: int, longest: float) -> list[Moment]:
    """Random moments, every third of them while a file is half written."""
    draw = random.Random(seed)
    return [
        mid_write(folder) if i % 3 == 2 else after(draw.uniform(0, longest), folder)
        for i in range(count)
    ]


def _since_start(folder: Path, condition: Callable[[float], bool]) -> Moment:
    """A condition on the seconds since the process' first checkpoint."""
    before: list[str] = []
    started: list[float] = []

    def come() -> bool:
        names = _checkpoints(folder)
        if not before:
            before.append(names[-1] if names else "")
        if not started and names and names[-1] != before[0]:
            started.append(time.monotonic())
        return bool(started) and condition(time.monotonic() - started[0])

    return come


def _checkpoints(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / "checkpoint").glob("[0-9]*.npz"))


def _halves(folder: Path) -> list[str]:
    paths = [*folder.glob(".part-*"), *folder.glob("checkpoint/.part-*")]
    return [path.name.split("-", 2)[2] for path in paths]


def _place(folder: Path) -> str:
    names = _checkpoints(folder) or ["none"]
    return " ".join(
        [names[-1], *(f"({name} half written)" for name in _halves(folder))]
    )


def search_command(folder: Path, workers: int, trials: int, epochs: int) -> list[str]:
    """A search by several processes, trials of seconds."""
    return [
        sys.executable, "-m", "keras_resnet.cli", "tune", "--no-track",
        "--recipe", "digits", "--epochs", str(epochs), "--trials", str(trials),
        "--workers", str(workers), "--folder", str(folder),
    ]  # fmt: skip


def survive_search(
    command: Sequence[str], kills: int, seed: int, longest: float
) -> list[str]:
    """Kills any process of a search by SIGKILL, so many times, and lets it end.

    Args:
        command: started again where it has given up, or was killed itself.
        kills: how many.
        seed: of the moments and of who is killed.
        longest: seconds between two kills.

    Returns:
        Who was killed.

    Raises:
        RuntimeError: the command failed by itself.
    """
    draw, found = random.Random(seed), []
    while True:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            while process.poll() is None:
                if len(found) == kills:
                    process.wait()
                    break
                time.sleep(draw.uniform(0, longest))
                members = _members(process.pid)
                if len(members) > 2:  # with a worker: else all kills were of starts
                    name = draw.choice(sorted(members))
                    found.append(name)
                    os.kill(members[name], signal.SIGKILL)
        finally:
            process.kill()
            _, errors = process.communicate()
        if process.returncode == 0:
            return found
        gave_up = b"the same command resumes" in errors
        if not (gave_up or process.returncode == -signal.SIGKILL):
            raise RuntimeError(errors.decode()[-2000:])


def _members(supervisor: int) -> dict[str, int]:
    """The processes of a search by their names, which Linux tells."""
    found = {"supervisor": supervisor}
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children")
    for number in children.read_text().split():
        with suppress(OSError):
            lines = Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
            names = [x for x in lines if x.startswith(b"KERASTUNER_TUNER_ID=")]
            for name in names:
                found[name.partition(b"=")[2].decode()] = int(number)
    return found


def lost_or_twice(folder: Path, trials: int, epochs: int) -> list[str]:
    """What is wrong with a search that has ended: there should be nothing."""
    from tuning.trials import read_trials

    there = read_trials(folder)
    found = [f"{len(there)} trials"] if len(there) != trials else []
    seen: dict[str, str] = {}
    for trial in there:
        if trial.status != "COMPLETED":
            found.append(f"{trial.id} is {trial.status}: {trial.reason}")
        rows = [row["epoch"] for row in files.read_lines(trial.run / HISTORY)]
        if rows != list(range(1, epochs + 1)):
            found.append(f"{trial.id} has epochs {rows}")
        values = json.dumps(trial.values, sort_keys=True)
        if values in seen:
            found.append(f"{trial.id} is {seen[values]} again")
        seen[values] = trial.id
    return found


def differences(one: Path, other: Path) -> list[str]:
    """What two runs ended with that is not bit for bit the same.

    All variables (weights, optimizer, averages, random states, metrics), the history
    but for its seconds, and the best model.
    """
    import keras

    found = []
    (first, facts), (second, others) = map(_state, (one, other))
    if facts != others:
        found.append("epoch or history")
    if len(first) != len(second):
        found.append("number of variables")
    pairs = zip(first, second, strict=False)
    apart = sum(a.tobytes() != b.tobytes() for a, b in pairs)
    if apart:
        found.append(f"{apart} of {len(first)} variables")
    if _rows(one) != _rows(other):
        found.append(HISTORY)
    models = [keras.models.load_model(run / BEST) for run in (one, other)]
    weights, best = (model.get_weights() for model in models)
    if any(a.tobytes() != b.tobytes() for a, b in zip(weights, best, strict=True)):
        found.append(BEST)
    return found


def _state(run: Path) -> tuple[list[np.ndarray], dict[str, Any]]:
    with np.load(run / "checkpoint" / f"{_checkpoints(run)[-1]}.npz") as file:
        arrays = [file[name] for name in file.files if name != "facts"]
        facts = json.loads(file["facts"].tobytes())
    for row in (facts, *facts["history"]):
        del row["seconds"]
    return arrays, facts


def _rows(run: Path) -> list[dict[str, float]]:
    rows = files.read_lines(run / HISTORY)
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def recipe_for(network: str, epochs: int) -> Any:
    """Everything random that a recipe can have, and a schedule."""
    from keras_resnet import cifar_resnet, wide_resnet
    from keras_resnet.data import Augment
    from keras_resnet.training import get_recipe

    networks = {
        "small": lambda: cifar_resnet(8, stem_width=4, widths=(4, 8, 8)),
        "wrn": lambda: wide_resnet(10, 2),
    }
    return get_recipe("digits").replace(
        name=f"kills-{network}",
        model=networks[network]().replace(dropout=0.2, survival=0.7),
        epochs=epochs,
        warmup_epochs=1,
        image_size=8,
        augment=Augment(pad=1, flip=True, mixup=0.2),
    )


def write_digits(folder: Path) -> None:
    """scikit-learn's digits as a folder of image files."""
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for i, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / str(label) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15.9).astype("uint8")).save(path)


def main() -> int:
    """Prints a table of kills; 0 if both runs ended with the same."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--network", choices=["small", "wrn"], default="small")
    parser.add_argument("--source", choices=["arrays", "folder"], default="arrays")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--longest", type=float, default=1.0)
    parser.add_argument("--search", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--trials", type=int, default=12)
    given = parser.parse_args()
    if given.search:
        return _main_search(given)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        data = "digits"
        if given.source == "folder":
            write_digits(place / "digits")
            data = f"folder:{place / 'digits'}"
        recipe, whole, parts = (place / n for n in ("recipe.json", "whole", "parts"))
        recipe.write_text(recipe_for(given.network, given.epochs).to_json())
        subprocess.run(
            train_command(recipe, data, whole), check=True, stdout=subprocess.DEVNULL
        )
        moments = drawn(parts, given.kills, given.seed, given.longest)
        places = survive(train_command(recipe, data, parts), moments, parts)
        for number, found in enumerate(places, 1):
            print(f"kill {number:2}  last checkpoint (epochs-steps) {found}")
        apart = differences(whole, parts)
        print(f"{len(places)} kills; differs: {', '.join(apart) or 'nothing'}")
        return int(bool(apart))


def _main_search(given: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "search")
        command = search_command(folder, given.workers, given.trials, given.epochs)
        places = survive_search(command, given.kills, given.seed, given.longest)
        for number, found in enumerate(places, 1):
            print(f"kill {number:2}  {found}")
        wrong = lost_or_twice(folder, given.trials, given.epochs)
        print(f"{len(places)} kills; wrong: {', '.join(wrong) or 'nothing'}")
        return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
