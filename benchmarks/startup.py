"""Startup: seconds from `build` to the end of the first training step.

    python -m benchmarks.startup [--case NAME] [--peer NAME] [--saving]

Every measurement is a fresh process; imports do not count. What takes longer than
`--limit` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks import harness, options, report
from benchmarks.harness import Result, Task
from benchmarks.peers import SAVING, TRAINING, Peer
from benchmarks.report import Bars
from keras_resnet.presets import get_spec
from keras_resnet.spec import ResNetSpec

BATCH = 8
CASES = (
    "cifar_resnet20",
    "cifar_resnet110",
    "cifar_resnet164_v2",
    "cifar_resnet1001_v2",
)
DEEPEST = "cifar_resnet1001_v2"
COLUMNS = {
    "network": ("case", ""),
    "peer": ("peer", ""),
    "build, s": ("build", ".2f"),
    "compile and first step, s": ("first_step", ".2f"),
    "sum, s": ("total", ".2f"),
    "it / ours": ("it_over_ours", ".2f"),
    "save, s": ("save", ".2f"),
    "load, s": ("load", ".2f"),
    "export, s": ("export", ".2f"),
    "note": ("note", ""),
}


@click.command()
@options.cases(CASES, CASES)
@options.peers(TRAINING, ["ours", "stock"])
@options.repeats(3)
@options.limit
@click.option("--saving", is_flag=True, help="Also time saving, loading, exporting.")
@click.option(
    "--stock-deepest",
    is_flag=True,
    help=f"Also {DEEPEST} in stock layers, which takes many minutes.",
)
@options.out()
def main(
    cases: tuple[str, ...],
    peers: tuple[str, ...],
    repeats: int,
    limit: float,
    saving: bool,
    stock_deepest: bool,
    out: Path,
) -> None:
    """Compare seconds until the first training step is done."""
    records = []
    for case in cases:
        spec = get_spec(case)
        too_slow = case == DEEPEST and not stock_deepest
        chosen = [peer for peer in peers if not (too_slow and peer.startswith("stock"))]
        steps = {peer: (TRAINING[peer], {"batch": BATCH}) for peer in chosen}
        files = {peer: (SAVING[peer], {}) for peer in chosen if peer in SAVING}
        found = _least(case, spec, steps, ("build", "first_step"), repeats, limit)
        if saving:
            keys = ("save", "load", "export")
            what = f"{case}, saving"
            for peer, facts in _least(what, spec, files, keys, repeats, limit).items():
                found[peer] = facts | found[peer]
        ours = found.get("ours", {}).get("total")
        for peer, facts in found.items():
            record = {"case": case, "peer": peer, **facts}
            if ours and "total" in facts:
                record["it_over_ours"] = facts["total"] / ours
            records.append(record)
    notes = [f"Least of {repeats} interleaved repeats, each in a fresh process."]
    if DEEPEST in cases and not stock_deepest:
        notes.append(f"{DEEPEST} in stock layers takes long: see --stock-deepest.")
    bars = Bars("seconds", "total", "{total:.1f} s, {build:.1f} of them build")
    title = f"From build to the end of the first training step, batch {BATCH}"
    report.publish(out, title, COLUMNS, records, *notes, bars=bars)


def _least(
    what: str,
    spec: ResNetSpec,
    peers: Mapping[str, tuple[Peer, dict[str, Any]]],
    keys: Sequence[str],
    repeats: int,
    limit: float,
) -> dict[str, dict[str, Any]]:
    """What each peer's processes told, where the `total` of `keys` was least."""
    results: dict[str, list[Result]] = {name: [] for name in peers}
    for _ in range(repeats):
        for name, (peer, arguments) in peers.items():
            if not any(result.error for result in results[name]):
                task = Task(peer, {"spec": spec, **arguments}, repeats=0)
                results[name] += harness.race(what, {name: task}, limit).values()
    found = {}
    for name, runs in results.items():
        totals = [
            result.facts | {"total": sum(result.facts[key] for key in keys)}
            for result in runs
            if not result.error
        ]
        found[name] = min(totals, key=lambda facts: facts["total"], default={})
        found[name] |= {"note": runs[-1].error}
    return found


if __name__ == "__main__":
    main()
