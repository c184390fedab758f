"""Runs peers in turns, each in a process of its own, while the others wait."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import click

from benchmarks.peers import PRODUCTS, UNTOUCHED, Peer
from keras_resnet.cost import estimate_cost
from keras_resnet.spec import ResNetSpec

ROOT = Path(__file__).parents[1]
REST = 0.3  # seconds in which the threads of the peer before go to sleep


class Task(NamedTuple):
    """What one process does: `steps` in each of its repeats."""

    peer: Peer
    arguments: dict[str, Any]
    steps: int = 1
    repeats: int = 1


@dataclass
class Result:
    """What came of a task.

    Attributes:
        facts: what its process told when it was ready.
        seconds: of a step, one number a repeat.
        peak: the most memory its process held, in bytes.
        error: why there is no more, on one line.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    peak: int = 0
    error: str | None = None

    @property
    def best(self) -> float | None:
        """The least seconds of a step."""
        return min(self.seconds, default=None)


class _Failed(Exception):
    """A peer that can't go on, and why."""


class _Process:
    """A peer's process, killed at the end of the context."""

    def __init__(self, task: Task, limit: float) -> None:
        job = {
            "module": task.peer.prepare.__module__,
            "prepare": task.peer.prepare.__name__,
            "arguments": {**task.arguments, **task.peer.options},
        }
        environment = dict(os.environ)
        environment.pop("TF_ENABLE_ONEDNN_OPTS", None)
        environment |= task.peer.environment
        self.limit = limit
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "benchmarks.peers",
                json.dumps(job, default=ResNetSpec.to_dict),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env=environment,
            # A group, to end with it what it starts, such as torch's compilers.
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.process.communicate()

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)

    def answer(self) -> dict[str, Any]:
        """The next line that the process says, within the limit."""
        timer = threading.Timer(self.limit, self.kill)
        started = time.perf_counter()
        timer.start()
        try:
            line = self.process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            if time.perf_counter() - started >= self.limit:
                raise _Failed(f"> {self.limit:g} s")
            code = self.process.wait()
            killed = " (out of memory?)" if code == -signal.SIGKILL else ""
            raise _Failed(f"ended by itself, exit code {code}{killed}")
        answer = json.loads(line)
        if "error" in answer:
            raise _Failed(answer["error"])
        return answer

    def run(self, steps: int) -> dict[str, Any]:
        """Has the process run some steps."""
        time.sleep(REST)
        with suppress(BrokenPipeError):  # if it has ended: `answer` says how
            self.process.stdin.write(f"{steps}\n")
            self.process.stdin.flush()
        return self.answer()


def race(what: str, tasks: Mapping[str, Task], limit: float) -> dict[str, Result]:
    """Starts all tasks one by one, then runs their repeats in turns.

    A task that fails, or takes more than `limit` seconds to get ready or for a repeat,
    has an error and no further turns. Progress goes to stderr as "`what`, name: ...".
    """
    # Ended by a signal, take the processes along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    results = {name: Result() for name in tasks}
    with ExitStack() as stack:
        processes: dict[str, _Process] = {}
        turns = max((task.repeats for task in tasks.values()), default=0)
        for turn in range(turns + 1):
            for name, task in tasks.items():
                result = results[name]
                if result.error or turn > task.repeats:
                    continue
                try:
                    if turn == 0:
                        click.echo(f"{what}, {name}: getting ready", err=True)
                        process = stack.enter_context(_Process(task, limit))
                        processes[name] = process
                        result.facts = process.answer()
                        continue
                    answer = processes[name].run(task.steps)
                except _Failed as failure:
                    result.error = str(failure)
                    click.echo(f"{what}, {name}: {failure}", err=True)
                else:
                    result.seconds.append(answer["seconds"])
                    result.peak = answer["peak"]
                    progress = f"{turn} of {task.repeats}: {answer['seconds']:.3g} s"
                    click.echo(f"{what}, {name}: {progress} a step", err=True)
    return results


def in_turns(
    what: str, calls: Mapping[str, Callable[[], float]], repeats: int
) -> dict[str, list[float]]:
    """Seconds that calls return, each called in turn, `repeats` times."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats):
        for name, call in calls.items():
            found[name].append(call())
            progress = f"{turn + 1} of {repeats}: {found[name][-1]:.3g} s"
            click.echo(f"{what}, {name}: {progress}", err=True)
    return found


def conditions(repeats: int, side: int) -> str:
    """A note on how `throughputs` measured."""
    return (
        f"Least of {repeats} interleaved repeats, float32. GEMM: the product of two "
        f"{side}x{side} matrices, in the faster of torch and TensorFlow."
    )


TRAINING_STEP = "A step counts as 3 times the multiply-adds of the forward pass."


def throughputs(
    what: str,
    tasks: Mapping[str, Task],
    *,
    passes: int,
    side: int,
    repeats: int,
    limit: float,
) -> list[dict[str, Any]]:
    """Races tasks that train or run networks; a record of each, its speed among it.

    Between their turns the machine's float32 rate is measured, by products of two
    matrices of `side` rows. A step of `passes` 3, training, counts as three times the
    multiply-adds of the network's forward pass.
    """
    products = {
        name: Task(peer, {"side": side}, 1, repeats) for name, peer in PRODUCTS.items()
    }
    results = race(what, products | tasks, limit)
    times = [results[name].best for name in products]
    rate = max((side**3 / best for best in times if best), default=None)
    records = []
    for name, task in tasks.items():
        result, batch = results[name], task.arguments["batch"]
        speed = batch / result.best if result.best else None
        macs = passes * estimate_cost(task.arguments["spec"]).macs
        records.append(
            {
                "case": what,
                "peer": name,
                "batch": batch,
                "images_per_second": speed,
                "seconds_per_mac": 1 / (macs * speed) if speed else None,
                "gemm_share": macs * speed / rate if rate and speed else None,
                "gemm_flops_per_second": 2 * rate if rate else None,
                "seconds_per_step": result.seconds,
                **result.facts,
                "note": result.error,
            }
        )
    add_ratios(records)
    return records


def add_ratios(records: Iterable[dict[str, Any]]) -> None:
    """Adds what `ours` of the same case is, in each record's speed."""
    records = list(records)
    ours = {
        record["case"]: record["images_per_second"]
        for record in records
        if record["peer"] == "ours"
    }
    for record in records:
        if ours.get(record["case"]) and record["images_per_second"]:
            record["ours_over_it"] = ours[record["case"]] / record["images_per_second"]


def onednn_by_itself() -> bool:
    """Whether TensorFlow, left alone, uses oneDNN on this machine."""
    result = race("TensorFlow", {"untouched": Task(UNTOUCHED, {}, repeats=0)}, 120)
    return bool(result["untouched"].facts.get("onednn"))
