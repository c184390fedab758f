"""How many trials a search's chief can hand out in a second, to how many workers.

    python -m benchmarks.chief --workers 8 --workers 500

Workers are simulated: each takes a trial, has it for about a minute of a simulated
clock, and ends it. What the chief does is real: KerasTuner's oracle, the budget, the
files, the lines of progress. Only gRPC is left out, whose calls an oracle answers one
at a time. Seconds are of the processor.
"""

from __future__ import annotations

import heapq
import io
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from benchmarks import options, report
from keras_resnet.presets import cifar_resnet
from keras_resnet.recipe import Recipe
from tuning.budget import Budget
from tuning.decode import declare, recipe_from_hp
from tuning.objective import Objective
from tuning.oracles import make_oracle
from tuning.search_progress import Progress
from tuning.space import Range, Space

SECONDS = 60.0  # of a trial, by the simulated clock
BEAT = 2.0  # between two looks at the workers' heartbeats
SPACE = Space(
    name="chief",
    depth=(8, 14, 20, 32, 44),
    k=Range(0.5, 4.0),
    l2=Range(1e-5, 1e-3, log=True),
)


class Candidates:
    """What an oracle asks of a hypermodel; nothing is built."""

    def __init__(self) -> None:
        self.seed = 0
        self.budget = Budget(macs=200e6)
        self.recipe = Recipe(name="base", model=cifar_resnet(20), epochs=1)

    def refusal(self, hp: Any) -> str | None:
        """Why hyperparameters are over the budget; None if they aren't."""
        recipe = recipe_from_hp(hp, SPACE, self.recipe)
        return self.budget.refusal(recipe.model, recipe.batch_size)


def simulate(kind: str, workers: int, trials: int, folder: Path) -> dict[str, Any]:
    """A whole search; the chief's seconds of its first and last hundred trials."""
    model: Any = Candidates()
    console = Console(file=io.StringIO(), width=120)
    with Progress(console, folder, trials, None) as progress:
        oracle = make_oracle(
            kind, model, objective=Objective(), trials=trials, on_change=progress.show
        )
        oracle._set_project_dir(str(folder), "tuner")
        declare(oracle.hyperparameters, SPACE)
        draw = random.Random(0)
        events = [
            (draw.uniform(0, SECONDS), f"worker-{i}", None) for i in range(workers)
        ]
        heapq.heapify(events)
        costs, looked, busy = [], 0.0, 0.0
        while events:
            now, name, trial = heapq.heappop(events)
            began = time.process_time()
            if now - looked > BEAT:
                oracle.reassign({f"worker-{i}" for i in range(workers)}, 300.0)
                looked = now
            if trial is not None:
                metrics = {
                    "val_accuracy": draw.random(),
                    "macs": 1e6,
                    "seconds": SECONDS,
                }
                oracle.update_trial(trial.trial_id, metrics)
                trial.status = "COMPLETED"
                oracle.end_trial(trial)
            following = oracle.create_trial(name)
            costs.append(time.process_time() - began)
            busy += costs[-1]
            if following.status == "RUNNING":
                ends = now + draw.uniform(0.5, 1.5) * SECONDS
                heapq.heappush(events, (ends, name, following))
    done = [t for t in oracle.trials.values() if t.status == "COMPLETED"]
    return {
        "case": f"{workers} workers",
        "peer": kind,
        "trials": len(done),
        "first": 1e3 * sum(costs[:100]) / len(costs[:100]),
        "last": 1e3 * sum(costs[-100:]) / len(costs[-100:]),
        "a_second": len(costs) / busy,
        "busy": busy / (SECONDS * trials / workers),
    }


@click.command()
@click.option("--workers", multiple=True, type=int, default=[8, 100, 500])
@click.option("--each", default=4, show_default=True, help="Trials of a worker.")
@click.option("--tuner", "tuners", multiple=True, default=["random"])
@options.out()
def main(workers: list[int], each: int, tuners: list[str], out: Path) -> None:
    """Simulates searches of so many workers."""
    rows = []
    for kind in tuners:
        for count in workers:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(simulate(kind, count, count * each, Path(folder)))
    columns = {
        "workers": ("case", ""),
        "tuner": ("peer", ""),
        "trials": ("trials", ""),
        "ms a trial, first 100": ("first", ".1f"),
        "last 100": ("last", ".1f"),
        "trials a second": ("a_second", ".0f"),
        "share of the time": ("busy", ".1%"),
    }
    report.publish(out, "The chief's own time", columns, rows)


if __name__ == "__main__":
    main()
