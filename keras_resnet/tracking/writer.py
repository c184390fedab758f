"""Sends the events of runs to MLflow: beside a training, or afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from keras_resnet.errors import UserError, one_line
from keras_resnet.limits import hide_passwords
from keras_resnet.tracking import origin
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
            sent.error = hide_passwords(one_line(error))
            buffer.record(store.address, sent)
            return sent.error
    return None


class Synced(NamedTuple):
    """What came of sending a run.

    Attributes:
        run: its folder.
        store: where it was sent, without a password; None if nowhere.
        sent: whether there was anything to send.
        error: why not all of it was sent.
        refused: what the store will never take.
    """

    run: Path
    store: str | None
    sent: bool = False
    error: str | None = None
    refused: Sequence[str] = ()


def sync(runs: Iterable[Path], address: str | None = None) -> Iterator[Synced]:
    """Sends each run what its store lacks; a store that fails is not tried again.

    A run that can't be sent does not stop the others.

    Args:
        runs: run folders.
        address: the store; by default where each run of this machine was to go. For
            a run from elsewhere it must be given: its folder's word is not enough.
    """
    stores: dict[str, Store] = {}
    failures: dict[str, str] = {}
    for run in runs:
        try:
            yield _sync_one(Buffer(run), address, stores, failures)
        except (UserError, OSError) as error:
            yield Synced(run, None, error=hide_passwords(one_line(error)))


def _sync_one(
    buffer: Buffer,
    address: str | None,
    stores: dict[str, Store],
    failures: dict[str, str],
) -> Synced:
    place = address or _store_of(buffer)
    shown = hide_passwords(place)
    with buffer.sending():
        buffer.close_if_abandoned()
    if not buffer.unsent(place):
        return Synced(buffer.run, shown)
    if buffer.first() is None:
        raise UserError("its events are damaged: the one that opens it is missing")
    error = failures.get(place)
    if error is None:
        store = stores.setdefault(place, Store(place))
        error = send(buffer, store)
        if error and not store.answers():
            failures[place] = error
    return Synced(buffer.run, shown, True, error, buffer.sent(place).refused)


def _store_of(buffer: Buffer) -> str:
    """Where a run is to go, as this machine knows it.

    Raises:
        UserError: it is from elsewhere, or the password isn't known.
    """
    here, first = store_address(), buffer.first()
    own = first and origin.store_of(first.fields["run"])
    place = own or buffer.store() or here
    if place == hide_passwords(here):
        return here
    if own is None:
        raise UserError(
            f"it was not trained on this machine, and names the store {place}; if it "
            f"is to go there: keras-resnet sync {buffer.run} --tracking-uri {place}"
        )
    if ":***@" in place:
        raise UserError(
            f"its store {place} needs a password, which is not kept: set "
            "MLFLOW_TRACKING_URI"
        )
    return place
