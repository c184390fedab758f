"""One search by several processes: KerasTuner's chief and workers, and a supervisor.

KerasTuner has no lease on a trial: its chief waits for ever for a worker that has died,
and a worker whose chief has gone hangs for an hour. Here a dead worker is started again
under its own name, and so gets its trial back, which goes on from its run folder. No
TensorFlow.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from keras_resnet.errors import UserError
from keras_resnet.runtime import usable_cores

DEATHS = 5  # of a process, after which the search gives up
JOIN = 300.0  # seconds in which a chief must answer
LOST = 60.0  # seconds without a chief, after which a worker ends
GRACE = 20.0  # seconds that a process has to end by itself
# Seconds that a chief has to end once its workers have: it looks every 20, and logs the
# best model.
END = 600.0
_POLL = 0.2


class ClusterError(UserError):
    """Processes that can't work together; the message is one line."""


def parse_address(text: str) -> tuple[str, int]:
    """HOST:PORT.

    Raises:
        ClusterError: it is none.
    """
    match = re.fullmatch(r"([\w.-]+):(\d{1,5})", text)
    if not match or not 0 < int(match[2]) < 65_536:
        raise ClusterError(f"chief: {text!r} is not HOST:PORT, such as 10.0.0.5:8500")
    return match[1], int(match[2])


def free_address() -> tuple[str, int]:
    """A free port of the loopback interface."""
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        host, port = own.getsockname()
        return host, port


def variables(address: tuple[str, int], name: str) -> dict[str, str]:
    """What KerasTuner reads: "chief", or a worker's name."""
    return {
        "KERASTUNER_ORACLE_IP": address[0],
        "KERASTUNER_ORACLE_PORT": str(address[1]),
        "KERASTUNER_TUNER_ID": name,
    }


def own_address() -> tuple[str, int] | None:
    """The chief's address, in a process that is a chief or a worker."""
    host = os.environ.get("KERASTUNER_ORACLE_IP")
    return (host, int(os.environ["KERASTUNER_ORACLE_PORT"])) if host else None


def is_worker() -> bool:
    """Whether this process runs trials for a chief."""
    return own_address() is not None and (
        "chief" not in os.environ["KERASTUNER_TUNER_ID"]
    )


def answers(address: tuple[str, int]) -> bool:
    """Whether something listens there."""
    try:
        socket.create_connection(address, timeout=2).close()
    except OSError:
        return False
    return True


def wait_for_chief(address: tuple[str, int], seconds: float = JOIN) -> None:
    """Waits until a chief listens.

    Raises:
        ClusterError: none does within the limit.
    """
    limit = time.monotonic() + seconds
    while not answers(address):
        if time.monotonic() > limit:
            raise ClusterError(
                f"chief: {address[0]}:{address[1]} did not answer within "
                f"{seconds:.0f} s; is the chief running, and does it listen there?"
            )
        time.sleep(_POLL)


@contextlib.contextmanager
def ending_with_chief(
    address: tuple[str, int], seconds: float = LOST
) -> Iterator[None]:
    """Ends this process, a worker, if its chief is gone for longer than the limit.

    KerasTuner's calls can't be interrupted; the trial is safe in its folder.
    """
    over = threading.Event()

    def watch() -> None:
        heard = time.monotonic()
        while not over.wait(min(2.0, seconds / 4)):
            if answers(address):
                heard = time.monotonic()
            elif time.monotonic() - heard > seconds:
                host, port = address
                print(
                    f"chief: {host}:{port} has not answered for {seconds:.0f} s; this "
                    "worker ends, and its trial goes on when it is started again",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(1)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


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
        the chief's exit code; 1 if it gave up.
    """
    family = _Family(command, address, workers)
    died = 0
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
            threads = str(max(1, usable_cores() // self.workers))
            environment |= {
                "LOCAL_RANK": name.removeprefix("worker-"),
                "LOCAL_WORLD_SIZE": str(self.workers),
                "TF_NUM_INTRAOP_THREADS": threads,
                "TF_NUM_INTEROP_THREADS": threads,
            }
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
