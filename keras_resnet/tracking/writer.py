"""Sends the events of runs to MLflow: beside a training, or afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from keras_resnet.errors import one_line
from keras_resnet.tracking.address import store_address
from keras_resnet.tracking.buffer import Buffer
from keras_resnet.tracking.store import Store
from keras_resnet.tracking.system import SystemSampler

PAUSE = 0.3  # seconds between looks at the events
LONGEST_PAUSE = 10.0  # while the store fails
PATIENCE = 10.0  # with a store that fails after its run has ended


def follow(folder: Path, address: str) -> None:
    """Sends a run's events, and its children's, while any of them is alive.

    Returns once everything has arrived or when, after their end, the store has failed
    for `PATIENCE`.
    """
    root = Buffer(folder)
    store = Store(address)
    sampler = SystemSampler(root)
    watched = {root.run: root}
    failing_since: float | None = None
    pause = PAUSE
    while watched:
        for buffer in list(watched.values()):
            watched |= {child.run: child for child in buffer.new_children()}
        # Looked at before the events: what dies after this has logged them all.
        alive = {run for run, buffer in watched.items() if buffer.is_alive()}
        if root.run in alive:
            sampler.sample_if_due()
        errors = [send(buffer, store) for buffer in watched.values()]
        if not any(errors):
            failing_since, pause = None, PAUSE
            watched = {run: b for run, b in watched.items() if run in alive}
        else:
            failing_since = failing_since or time.monotonic()
            pause = min(2 * pause, LONGEST_PAUSE if alive else 1.0)
            if not alive and time.monotonic() - failing_since > PATIENCE:
                return
        time.sleep(pause)


def send(buffer: Buffer, store: Store) -> str | None:
    """Sends what the store doesn't have of a run.

    Returns:
        why it could not; None if all has arrived.
    """
    if not buffer.exists():
        return None  # its folder was removed
    with buffer.sending():
        buffer.close_if_abandoned()
        sent = buffer.sent(store.address)
        events = buffer.events(sent.offset)
        try:
            if events:
                for _ in store.send(buffer, sent, events):
                    sent.error = None
                    buffer.record(store.address, sent)
        except Exception as error:  # any: the network's, the server's, the database's
            sent.error = one_line(error)
            buffer.record(store.address, sent)
            return sent.error
    return None


def sync(
    runs: Iterable[Path], address: str | None = None
) -> Iterator[tuple[Path, str, bool, str | None]]:
    """Sends each run what its store lacks; a store that fails is not tried again.

    Args:
        runs: run folders.
        address: the store; by default each run's own.

    Yields:
        run folder, store, whether anything was sent, and why not all of it was.
    """
    stores: dict[str, Store] = {}
    failures: dict[str, str] = {}
    for run in runs:
        buffer = Buffer(run)
        place = address or buffer.store() or store_address()
        with buffer.sending():
            buffer.close_if_abandoned()
        unsent = buffer.unsent(place) > 0
        error = failures.get(place) if unsent else None
        if unsent and error is None:
            error = send(buffer, stores.setdefault(place, Store(place)))
        if error:
            failures[place] = error
        yield run, place, unsent, error
