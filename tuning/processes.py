"""One search by several processes: KerasTuner's chief and its workers.

KerasTuner's trials have no lease: its chief waits for ever for a worker that has died,
and a worker whose chief has gone hangs for an hour. Here a worker that is restarted
under its name gets its trial back, which resumes from its run folder; the trial of one
whose heartbeat stops goes to another; and every wait has a limit. No TensorFlow.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from keras_resnet.errors import UserError

JOIN = 300.0  # seconds in which a chief must answer
LOST = 60.0  # seconds without a chief, after which a worker ends
LEASE = (
    300.0  # seconds without a worker's heartbeat, after which its trial is another's
)
ALONE = 1800.0  # seconds without any heartbeat, after which a chief ends
_POLL = 0.2
_BEAT = 2.0  # seconds between two heartbeats


def parse_address(text: str) -> tuple[str, int]:
    """HOST:PORT.

    Raises:
        UserError: it is none.
    """
    host, _, port = text.rpartition(":")
    labels = host.removesuffix(".").split(".")
    named = all(re.fullmatch(r"[A-Za-z0-9_-]{1,63}", label) for label in labels)
    counted = re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 65_536
    if not (named and counted and len(host) <= 253):
        raise UserError(f"chief: {text!r} is not HOST:PORT, such as 10.0.0.5:8500")
    return host, int(port)


def free_address() -> tuple[str, int]:
    """A free port of the loopback interface."""
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        host, port = own.getsockname()
        return host, port


def check_address(address: tuple[str, int]) -> None:
    """Refuses what a chief can't listen on.

    Raises:
        UserError: another process has the port, or the host is not this machine.
    """
    with socket.socket() as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            own.bind(address)
        except OSError as error:
            raise UserError(
                f"chief: can't listen on {address[0]}:{address[1]}: {error.strerror}"
            ) from None


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
    port = os.environ.get("KERASTUNER_ORACLE_PORT", "")
    return parse_address(f"{host}:{port}") if host else None


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
        UserError: none does within the limit.
    """
    limit = time.monotonic() + seconds
    while not answers(address):
        if time.monotonic() > limit:
            raise UserError(
                f"chief: {address[0]}:{address[1]} did not answer within "
                f"{seconds:.0f} s; is the chief running, and does it listen there?"
            )
        time.sleep(_POLL)


class Heartbeats:
    """Heartbeats of workers: files that they touch in the search's folder.

    A chief compares a file's time with that of before, so clocks need not agree.
    """

    def __init__(self, search: Path) -> None:
        self.folder = search / "workers"
        self.times: dict[str, int] = {}

    def beat(self, name: str) -> None:
        """Touches a worker's file, if the disk lets it."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(exist_ok=True)
            (self.folder / name).touch()

    def new(self) -> set[str]:
        """Workers whose heart has beaten since the last call."""
        found: dict[str, int] = {}
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():
                found[path.name] = path.stat().st_mtime_ns
        before, self.times = self.times, self.times | found
        return {name for name, time in found.items() if before.get(name) != time}


@contextlib.contextmanager
def watching_workers(
    heartbeats: Heartbeats,
    reassign: Callable[[set[str], float], list[str]],
    log: Callable[[str], None],
) -> Iterator[None]:
    """Gives trials of dead workers to others; ends a chief that has no workers.

    KerasTuner's wait can't be interrupted; the search is safe in its folder.

    Args:
        heartbeats: of the workers.
        reassign: called with the workers that are alive and the seconds after which
            one is dead; gives up the trials of the dead and returns their names.
        log: called with a line for each.
    """
    last = time.monotonic()

    def watch() -> None:
        nonlocal last
        alive = heartbeats.new()
        last = time.monotonic() if alive else last
        for name in reassign(alive, LEASE):
            log(f"{name}: no heartbeat for {LEASE:.0f} s; another gets its trial")
        if time.monotonic() - last > ALONE:
            _end(
                f"chief: no heartbeat of any worker for {ALONE:.0f} s; the same "
                "command resumes"
            )

    with _repeating(watch, _BEAT):
        yield


@contextlib.contextmanager
def watching_chief(
    address: tuple[str, int],
    beat: Callable[[], None] = lambda: None,
    seconds: float = LOST,
) -> Iterator[None]:
    """Ends this process, a worker, if its chief is gone for longer than the limit.

    KerasTuner's calls can't be interrupted; the trial is safe in its folder.

    Args:
        address: of the chief.
        beat: gives this worker's heartbeat.
        seconds: the limit.
    """
    last = time.monotonic()

    def watch() -> None:
        nonlocal last
        beat()
        if answers(address):
            last = time.monotonic()
        elif time.monotonic() - last > seconds:
            _end(
                f"chief: {address[0]}:{address[1]} has not answered for {seconds:.0f} "
                "s; this worker ends, and resumes its trial when it is started again"
            )

    with _repeating(watch, min(_BEAT, seconds / 4)):
        yield


@contextlib.contextmanager
def _repeating(action: Callable[[], None], pause: float) -> Iterator[None]:
    """Calls it in a thread, with pauses."""
    over = threading.Event()

    def repeat() -> None:
        action()
        while not over.wait(pause):
            action()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _end(message: str) -> None:
    """Ends this process, whatever its other threads wait for."""
    print(message, file=sys.stderr, flush=True)
    os._exit(1)
