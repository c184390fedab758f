"""Which tuner finds more in the same time: searches replayed on the table of results.

    python -m benchmarks.replay --replays 1000

A replayed trial takes its accuracies and seconds from `search_table`, of one of its
seeds at random. What a search has found at a time is the trial with the best validation
accuracy so far, or the one of which most is expected (`tuning.expected`); its regret is
how many points the test accuracy of the network's other seeds is below that of the
table's best network. Time is counted in trainings of average length.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, mode, variance
from types import SimpleNamespace
from typing import Any, NamedTuple

import click
import numpy as np

from benchmarks import options, report
from benchmarks.search_table import DEPTHS, EPOCHS, TABLE, Point
from keras_resnet import files
from tuning.decode import declare
from tuning.expected import expected_accuracy
from tuning.objective import Objective
from tuning.oracles import from_kerastuner, make_oracle
from tuning.space import Space
from tuning.trials import Trial

TRIALS = 24  # trainings of average length, in all
TIMES = (2, 4, 8, 12, 16, 20, 24)
BEST, EXPECTED = "best trial", "most expected"  # how a search chooses
TUNERS = ("random", "grid", "bayesian", "hyperband")
# `units` counts the table's depths of a block, `k` is the cost.
SPACE = Space(
    name="table",
    block=("basic", "bottleneck"),
    units=(1, 2, 3, 4),
    k=(0.5, 1.0, 2.0),
    cardinality=(1, 2, 4, 8),
)


class Network(NamedTuple):
    """A row of the table, of all its seeds.

    Attributes:
        val: accuracies of each seed by epoch.
        test: accuracies of each seed at the end.
        seconds: of each seed by epoch.
    """

    val: list[list[float]]
    test: list[float]
    seconds: list[list[float]]


def read_table(path: Path) -> dict[Point, Network]:
    """The networks of which as many seeds have been run as of any."""
    rows: dict[Point, list[dict[str, Any]]] = {}
    for row in files.read_lines(path):
        rows.setdefault(Point(*(row[f] for f in Point._fields)), []).append(row)
    most = max(map(len, rows.values()))
    return {
        point: Network(
            [row["val"] for row in known],
            [row["test"] for row in known],
            [row["seconds"] for row in known],
        )
        for point, known in rows.items()
        if len(known) == most
    }


def point_of(values: dict[str, Any]) -> Point:
    """The network of some hyperparameters."""
    block = values["block"]
    depth = DEPTHS[block][values["units"] - 1]
    return Point(block, depth, values.get("cardinality", 1), values["k"] * 1e6)


class Replayed:
    """What oracles ask of a hypermodel: whether there is a network."""

    def __init__(self, table: dict[Point, Network], seed: int) -> None:
        self.table, self.seed = table, seed
        self.recipe = SimpleNamespace(epochs=EPOCHS)
        self.budget = SimpleNamespace(time=None)

    def refusal(self, hp: Any) -> str | None:
        """Why there is none."""
        return None if point_of(hp.values) in self.table else "budget: not there"


def replay(
    kind: str, seed: int, table: dict[Point, Network], noise: float
) -> dict[str, list[tuple[float, float]]]:
    """Time and regret, in points, after each trial of a search, by how it chooses."""
    draw = random.Random(seed)
    hypermodel: Any = Replayed(table, seed)
    oracle = make_oracle(kind, hypermodel, objective=Objective(), trials=len(table))
    if kind == "hyperband":
        oracle.hyperband_iterations = 100
    oracle.save = oracle._save_trial = lambda *_: None
    oracle._get_trial_dir = lambda _: ""
    declare(oracle.hyperparameters, SPACE)
    each = fmean(sum(s) for network in table.values() for s in network.seconds)
    best = max(fmean(network.test) for network in table.values())
    seeds: dict[Any, int] = {}  # a promoted trial is the same training
    took = 0.0
    trials: list[Trial] = []
    found: dict[str, list[tuple[float, float]]] = {BEST: [], EXPECTED: []}
    while took < TRIALS * each:
        trial = oracle.create_trial("one")
        if trial.status != "RUNNING":
            break
        values = trial.hyperparameters.values
        network = table[point_of(values)]
        first, last = (int(values.get(f"tuner/{name}", default)) for name, default in
                       (("initial_epoch", 0), ("epochs", EPOCHS)))  # fmt: skip
        parent = values.get("tuner/trial_id")
        seeds[trial.trial_id] = used = seeds.get(
            parent, draw.randrange(len(network.val))
        )
        took += sum(network.seconds[used][first:last])
        accuracy = network.val[used][last - 1]
        oracle.update_trial(trial.trial_id, {"val_accuracy": accuracy})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
        trials.append(from_kerastuner(trial))
        if last == EPOCHS or not found[BEST]:
            whole = [t for t in trials if epochs_of(t) == EPOCHS] or trials
            for rule, chosen in choices(whole, noise).items():
                # By seeds that the search has not seen.
                tests = table[point_of(chosen.values)].test
                unseen = [*tests[: seeds[chosen.id]], *tests[seeds[chosen.id] + 1 :]]
                found[rule].append((took / each, 100 * (best - fmean(unseen))))
    return found


def epochs_of(trial: Trial) -> int:
    """How long a trial was trained."""
    return int(trial.values.get("tuner/epochs", EPOCHS))


def choices(trials: Sequence[Trial], noise: float) -> dict[str, Trial]:
    """The trial that did best, and the one of which most is expected."""
    hopes = expected_accuracy(trials, noise)
    most = max(range(len(trials)), key=hopes.__getitem__)
    return {BEST: max(trials, key=lambda t: t.accuracy), EXPECTED: trials[most]}


def regrets(runs: Iterable[Sequence[tuple[float, float]]]) -> np.ndarray:
    """Regret of each search at each of `TIMES`; before the first choice, that of it."""
    table = []
    for run in runs:
        first = run[0][1]
        table.append(
            [next((r for t, r in reversed(run) if t <= at), first) for at in TIMES]
        )
    return np.array(table)


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % of the means of searches drawn again (bootstrap)."""
    draw = np.random.default_rng(0)
    means = draw.choice(values, (1000, len(values))).mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def seeds_noise(table: dict[Point, Network]) -> float:
    """Standard deviation of one network's validation accuracy, over its seeds."""
    variances = [variance(val[-1] for val in n.val) for n in table.values()]
    return math.sqrt(fmean(variances))


def records(
    case: str, kind: str, table: dict[Point, Network], replays: int
) -> list[dict[str, Any]]:
    """A record for each way to choose and each of `TIMES`."""
    noise = seeds_noise(table)
    began = time.process_time()
    runs = [replay(kind, seed, table, noise) for seed in range(replays)]
    each = (time.process_time() - began) / replays
    rows = []
    for rule in (BEST, EXPECTED):
        found = regrets(run[rule] for run in runs)
        for at, column in zip(TIMES, found.T, strict=True):
            low, high = interval(column)
            rows.append(
                {
                    "case": case,
                    "peer": kind,
                    "chosen": rule,
                    "time": at,
                    "mean": float(column.mean()),
                    "low": low,
                    "high": high,
                    "median": float(np.median(column)),
                    "networks": len(table),
                    "replays": replays,
                    "noise": 100 * noise,
                    "own_seconds": each,
                }
            )
    return rows


def draw_curves(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Mean regret against time, with its interval."""
    from keras_resnet.figures import COLORS, new_figure, write_figure

    cases = list(dict.fromkeys(row["case"] for row in rows))
    figure, panels = new_figure(
        5 * len(cases), 3.8, 1, len(cases), sharey=True, squeeze=False
    )
    for axes, case in zip(panels.flat, cases, strict=True):
        for (i, kind), rule in itertools.product(enumerate(TUNERS), (BEST, EXPECTED)):
            drawn = (case, kind, rule)
            own = [r for r in rows if (r["case"], r["peer"], r["chosen"]) == drawn]
            if not own:
                continue
            style = "-" if rule == EXPECTED else ":"
            axes.plot(TIMES, [r["mean"] for r in own], style, color=COLORS[i],
                      label=f"{kind}, {rule}")  # fmt: skip
            axes.fill_between(TIMES, [r["low"] for r in own], [r["high"] for r in own],
                              color=COLORS[i], alpha=0.12)  # fmt: skip
        axes.set(xlabel="time (trainings of average length)", title=case)
    panels[0, 0].set(ylabel="mean regret (points)")
    panels[0, -1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.02, 1))
    write_figure(path, figure)


@click.command()
@click.option("--replays", default=1000, show_default=True, help="Of each tuner.")
@click.option(
    "--slow",
    default=100,
    show_default=True,
    help="Of Bayesian search, which takes some seconds each; 0 leaves it out.",
)
@options.several("--tuner", "tuners", TUNERS, TUNERS)
@click.option("--table", default=TABLE, type=click.Path(path_type=Path))
@options.out()
def main(
    replays: int, slow: int, tuners: tuple[str, ...], table: Path, out: Path
) -> None:
    """Replays searches over all costs, and over those of equal cost.

    What is known of other tuners is kept.
    """
    whole = read_table(table)
    usual = mode(point.macs for point in whole)
    equal = {p: network for p, network in whole.items() if p.macs == usual}
    path = out / "replay.json"
    known = files.read_json(path)["records"] if path.exists() else []
    rows = [row for row in known if row["peer"] not in tuners]
    rows += [
        row
        for case, networks in {"all costs": whole, "equal cost": equal}.items()
        for kind in tuners
        if (count := slow if kind == "bayesian" else replays)
        for row in records(case, kind, networks, count)
    ]
    report.write(out, rows)
    draw_curves(rows, out / "replay.png")
    columns = {
        "tuner": ("peer", ""),
        "chosen": ("chosen", ""),
        "time": ("time", ""),
        "mean regret": ("mean", ".2f"),
        "from": ("low", ".2f"),
        "to": ("high", ".2f"),
        "median": ("median", ".2f"),
    }
    report.show("Regret in points of accuracy", columns, rows)


if __name__ == "__main__":
    main()
