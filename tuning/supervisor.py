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

from keras_resnet.errors import UserError
from keras_resnet.runtime import ended_with_parent, share_of_machine
from tuning.processes import JOIN, answers, variables

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
    log: Callable[[str], None],
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
        log: called with a line for each death.
        deaths: of all processes together, after which it gives up.

    Returns:
        the chief's exit code; 1 if it gave up. Stopped by SIGTERM it stops them all.
    """
    processes = _Processes(command, address, workers)
    died = 0
    # By itself a SIGTERM would leave chief and workers running.
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        while True:
            processes.start("chief")
            ended = _until_listening(processes, address)
            if ended is None:
                for number in range(workers):
                    processes.start(f"worker-{number}")
                ended, died = _watch(processes, log, died, deaths)
            if ended is not None and ended >= 0:
                return ended
            died += 1
            if ended is None or died > deaths:
                log(f"search: gave up after {died} deaths; the same command resumes")
                return 1
            log(f"the chief died ({_cause(ended)}); starting all again, {died} deaths")
            processes.stop()
    finally:
        processes.stop()
        signal.signal(signal.SIGTERM, before)


class _Processes:
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
        self.running[name] = subprocess.Popen(
            self.command, env=environment, **ended_with_parent()
        )

    def stop(self) -> None:
        """Terminates all, and kills those that don't end."""
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


def _until_listening(processes: _Processes, address: tuple[str, int]) -> int | None:
    """Waits for the chief; its exit code if it ended before it listened."""
    limit = time.monotonic() + JOIN
    while not answers(address):
        code = processes.running["chief"].poll()
        if code is not None:
            return code
        if time.monotonic() > limit:
            raise UserError(f"chief: it did not listen within {JOIN:.0f} s")
        time.sleep(_POLL)
    return None


def _watch(
    processes: _Processes, log: Callable[[str], None], died: int, deaths: int
) -> tuple[int | None, int]:
    """Until the chief ends: its exit code, or None to give up; and deaths so far."""
    alone_since: float | None = None
    while True:
        time.sleep(_POLL)
        code = processes.running["chief"].poll()
        if code is not None:
            return code, died
        for name, process in list(processes.running.items()):
            if name == "chief" or process.poll() is None:
                continue
            if process.returncode == 0:  # there are no more trials
                del processes.running[name]
                continue
            died += 1
            if died > deaths:
                return None, died
            cause = _cause(process.returncode)
            log(f"{name} died ({cause}); started again, {died} deaths")
            processes.start(name)
        if len(processes.running) > 1:
            alone_since = None
        elif alone_since is None:
            alone_since = time.monotonic()
        elif time.monotonic() - alone_since > END:
            log(f"the chief did not end within {END:.0f} s of its workers")
            return None, died


def _cause(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
