"""A search by worker processes, one of which is killed every few seconds.

    python -m benchmarks.killed_workers --workers 8 --trials 40 --every 8

Real processes of `keras-resnet tune --chief`, by gRPC, with trials of some seconds on
the digits. A killed worker is started again under its name. At the end each combination
must have been trained once, each epoch once. The chief's own time is that of its
processor from the first trial's end to the last one's, on Linux.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click

from benchmarks import options, report
from keras_resnet import files, runtime
from keras_resnet.presets import cifar_resnet
from keras_resnet.run import HISTORY
from tuning import processes
from tuning.trials import read_trials

LIMIT = 1200.0  # seconds that a search may take
_POLL = 0.3


class Search:
    """A chief and its workers in a folder.

    Args:
        folder: where they work; emptied by nobody.
        workers: how many.
        trials: of the grid, each with another learning rate.
        epochs: of each trial.
    """

    def __init__(self, folder: Path, workers: int, trials: int, epochs: int) -> None:
        spec = cifar_resnet(8, stem_width=4, widths=(4, 8, 8))
        files.write_text(folder / "spec.json", spec.to_json())
        rates = [round(0.02 + 0.002 * i, 3) for i in range(trials)]
        space = {"name": "rates", "learning_rate": rates}
        files.write_text(folder / "space.json", json.dumps(space))
        self.folder, self.workers, self.trials = folder, workers, trials
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        host, port = processes.free_address()
        self.command = [
            sys.executable, "-m", "keras_resnet.cli", "tune", "--space", "space.json",
            "--spec", "spec.json", "--data", "digits", "--epochs", str(epochs),
            "--tuner", "grid", "--trials", str(trials), "--baseline", "0",
            "--no-track", "--strategy", "one", "--folder", "search",
            "--chief", f"{host}:{port}",
        ]  # fmt: skip

    def start(self, name: str) -> None:
        """Starts the chief, or a worker by its name."""
        worker = [] if name == "chief" else ["--worker", name]
        environment = os.environ | runtime.share_of_machine(0, self.workers)
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [*self.command, *worker], cwd=self.folder, env=environment,
                stdout=log, stderr=log, **runtime.ended_with_parent(),
            )  # fmt: skip

    def run(self, every: float, seed: int) -> dict[str, Any]:
        """Kills workers until the search has ended.

        Args:
            every: seconds from one kill to the next, once trials have begun.
            seed: fixes who is killed.

        Raises:
            RuntimeError: it failed, or took too long.
        """
        draw = random.Random(seed)
        began = time.monotonic()
        names = [f"worker-{i}" for i in range(self.workers)]
        for name in ("chief", *names):
            self.start(name)
        chief = self.running["chief"]
        kills, startup, spent, last = 0, 0.0, 0.0, 0.0
        while chief.poll() is None:
            now = time.monotonic()
            if now - began > LIMIT:
                raise RuntimeError(f"not ended in {LIMIT:g} s; {self.folder}")
            time.sleep(_POLL)
            if not startup and self.completed():
                startup, last = processor_seconds(chief.pid), now
            if not startup:
                continue
            if self.completed() < self.trials:
                spent = processor_seconds(chief.pid) - startup
            for name in names:
                if self.running[name].poll() not in (None, 0):
                    self.start(name)
            alive = [name for name in names if self.running[name].poll() is None]
            if alive and now - last > every:
                self.running[draw.choice(alive)].kill()
                kills, last = kills + 1, now
        if chief.returncode:
            raise RuntimeError((self.folder / "chief.log").read_text()[-2000:])
        for name in names:
            self.running[name].wait(60)
        seconds = time.monotonic() - began
        return {"kills": kills, "seconds": seconds, "chief": spent} | self.count()

    def completed(self) -> int:
        """Trials that have ended."""
        paths = self.folder.glob("search/tuner/trial_*/trial.json")
        return sum('"COMPLETED"' in path.read_text() for path in paths)

    def count(self) -> dict[str, int]:
        """Trials that ended, that are missing, and that were run more than once."""
        trials = read_trials(self.folder / "search")
        done = [trial for trial in trials if trial.status == "COMPLETED"]
        rates = Counter(trial.values["learning_rate"] for trial in done)
        epochs = [
            Counter(row["epoch"] for row in files.read_lines(trial.run / HISTORY))
            for trial in done
        ]
        return {
            "trials": len(done),
            "lost": len(trials) - len(done),
            "twice": sum(n > 1 for each in (rates, *epochs) for n in each.values()),
        }

    def stop(self) -> None:
        """Kills what runs."""
        for process in self.running.values():
            process.kill()
            process.wait()


def processor_seconds(pid: int) -> float:
    """What a process has used, as Linux counts it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@click.command()
@options.count("--workers", 8)
@options.count("--trials", 40)
@options.count("--epochs", 3, "Of a trial.")
@click.option("--every", default=8.0, show_default=True, help="Seconds between kills.")
@click.option("--seed", default=0, show_default=True)
@options.out()
def main(
    workers: int, trials: int, epochs: int, every: float, seed: int, out: Path
) -> None:
    """Runs a search whose workers are killed, and counts what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        search = Search(Path(folder), workers, trials, epochs)
        try:
            found = search.run(every, seed)
        finally:
            search.stop()
    found["each"] = 1e3 * found["chief"] / max(found["trials"], 1)
    found["case"] = f"{workers} workers"
    columns = {
        "workers": ("case", ""),
        "kills": ("kills", ""),
        "trials": ("trials", ""),
        "lost": ("lost", ""),
        "twice": ("twice", ""),
        "seconds": ("seconds", ".0f"),
        "chief, ms a trial": ("each", ".0f"),
    }
    report.publish(out, "A search by workers that are killed", columns, [found])
    if found["lost"] or found["twice"] or found["trials"] != trials:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
