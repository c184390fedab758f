"""Starts the chief and the workers of a search on this machine, and again if they die.

A dead worker is started under its own name. No TensorFlow.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from keras_resnet.runtime import share_of_machine
from tuning.processes import JOIN, ClusterError, answers, variables

DEATHS = 5  # of all processes together, after which the search gives up
GRACE = 20.0  # seconds that a process has to end by itself
# Seconds that a chief has to end once its workers have: it looks every 20, and logs the
# best model.
END = 600.0
_POLL = 0.2


def supervise(
    command: Sequence[str],
    workers: int,
    address: tuple[str, int],
    say: Callable[[str], None],
    *,
    deaths: int = DEATHS,
) -> int:
    """Runs a search as a chief and workers on this machine.

    Every process runs the same command with KerasTuner's variables. A worker that dies
    is started again; if the chief does, so are all: a worker's call to it is lost.

    Args:
        command: of the search.
        workers: how many.
        address: where the chief listens.
        say: is told of deaths.
        deaths: of all processes together, after which it gives up.

    Returns:
        the chief's exit code; 1 if it gave up. Stopped by SIGTERM it stops them all.
    """
    family = _Family(command, address, workers)
    died = 0
    # By itself a SIGTERM would leave chief and workers running.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        while True:
            family.start("chief")
            ended = _until_listening(family, address)
            if ended is None:
                for number in range(workers):
                    family.start(f"worker-{number}")
                ended, died = _watch(family, say, died, deaths)
            if ended is not None and ended >= 0:
                return ended
            died += 1
            if ended is None or died > deaths:
                say(f"search: gave up after {died} deaths; the same command goes on")
                return 1
            say(f"the chief died ({_cause(ended)}); starting all again, {died} deaths")
            family.stop()
    finally:
        family.stop()
        signal.signal(signal.SIGTERM, before)


class _Family:
    """The processes, by name."""

    def __init__(
        self, command: Sequence[str], address: tuple[str, int], workers: int
    ) -> None:
        self.command = list(command)
        self.address = address
        self.workers = workers
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        environment = os.environ | variables(self.address, name)
        if name != "chief":  # it shares cores and GPUs with the others
            rank = int(name.removeprefix("worker-"))
            environment |= share_of_machine(rank, self.workers)
        self.running[name] = subprocess.Popen(self.command, env=environment)

    def stop(self) -> None:
        """Ends all, kindly and then not."""
        for process in self.running.values():
            if process.poll() is None:
                process.terminate()
        limit = time.monotonic() + GRACE
        for process in self.running.values():
            try:
                process.wait(max(limit - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.running = {}


def _until_listening(family: _Family, address: tuple[str, int]) -> int | None:
    """Waits for the chief; its exit code if it ended before it listened."""
    limit = time.monotonic() + JOIN
    while not answers(address):
        code = family.running["chief"].poll()
        if code is not None:
            return code
        if time.monotonic() > limit:
            raise ClusterError(f"chief: it did not listen within {JOIN:.0f} s")
        time.sleep(_POLL)
    return None


def _watch(
    family: _Family, say: Callable[[str], None], died: int, deaths: int
) -> tuple[int | None, int]:
    """Until the chief ends: its exit code, or None to give up; and deaths so far."""
    alone_since: float | None = None
    while True:
        time.sleep(_POLL)
        code = family.running["chief"].poll()
        if code is not None:
            return code, died
        for name, process in list(family.running.items()):
            if name == "chief" or process.poll() is None:
                continue
            if process.returncode == 0:  # there are no more trials
                del family.running[name]
                continue
            died += 1
            if died > deaths:
                return None, died
            cause = _cause(process.returncode)
            say(f"{name} died ({cause}); started again, {died} deaths")
            family.start(name)
        if len(family.running) > 1:
            alone_since = None
        elif alone_since is None:
            alone_since = time.monotonic()
        elif time.monotonic() - alone_since > END:
            say(f"the chief did not end within {END:.0f} s of its workers")
            return None, died


def _cause(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
