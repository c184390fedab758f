"""Events of a run, as lines of JSON in its folder, and how many of them were sent.

`RUN/tracking/` holds `events.jsonl`, which only grows: each line is an event with its
kind and its time in ms. Any process may append; one at a time sends. `sent.json` says
for each store how far that came.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = "tracking"
_EVENTS, _SENT = "events.jsonl", "sent.json"
_ALIVE, _SENDING = ".alive", ".sending"  # locks


class Event(NamedTuple):
    """An event, and where the file's next one begins."""

    kind: str
    time: int
    fields: dict[str, Any]
    end: int


@dataclass
class Sent:
    """What a store has of a run.

    Attributes:
        offset: bytes of the events that it has.
        run_id: the run's id there.
        model_id: the logged model's.
        error: why the last attempt failed; None if it didn't.
        refused: why it didn't take some events, which are left out.
    """

    offset: int = 0
    run_id: str | None = None
    model_id: str | None = None
    error: str | None = None
    refused: list[str] = field(default_factory=list)


class Buffer:
    """The events of the run in `run`.

    A kill leaves at most a torn last line, which is skipped.
    """

    def __init__(self, run: Path | str) -> None:
        self.run = Path(run)
        self.folder = self.run / FOLDER
        self._looked = 0

    def exists(self) -> bool:
        """Whether this run has events."""
        return (self.folder / _EVENTS).is_file()

    def append(self, kind: str, at: int | None = None, **fields: Any) -> None:
        """Adds an event after those of other processes, in one write.

        Raises:
            OSError: it can't be written.
        """
        event = {"kind": kind, "time": at or now(), **fields}
        line = json.dumps(event, sort_keys=True).encode() + b"\n"
        self.folder.mkdir(parents=True, exist_ok=True)
        file = os.open(self.folder / _EVENTS, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        try:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":  # torn by a kill
                line = b"\n" + line
            os.write(file, line)
        finally:
            os.close(file)

    def events(self, offset: int = 0) -> list[Event]:
        """The events from a byte of the file on."""
        if not self.exists():
            return []
        with (self.folder / _EVENTS).open("rb") as file:
            file.seek(offset)
            lines = file.read().split(b"\n")
        found = []
        for line in lines[:-1]:  # what follows the last newline is still being written
            offset += len(line) + 1
            try:
                event = json.loads(line)
                kind, at = event.pop("kind"), event.pop("time")
            except (ValueError, KeyError):
                continue
            found.append(Event(kind, at, event, offset))
        return found

    def first(self) -> Event | None:
        """The event that opened the run."""
        return next((e for e in self.events() if e.kind == "start"), None)

    def store(self) -> str | None:
        """Where the run was last to be sent, as its tracker had it."""
        stores = [e.fields["store"] for e in self.events() if "store" in e.fields]
        return stores[-1] if stores else None

    def new_children(self) -> list[Buffer]:
        """The runs that were nested in this one since the last call."""
        events = self.events(self._looked)
        self._looked = events[-1].end if events else self._looked
        folders = [e.fields["folder"] for e in events if e.kind == "child"]
        return [Buffer(self.run / folder) for folder in dict.fromkeys(folders)]

    def family(self) -> list[Buffer]:
        """This run and all that are nested in it."""
        own = Buffer(self.run)
        return [own, *(b for child in own.new_children() for b in child.family())]

    def sent(self, store: str) -> Sent:
        """What `store` has of it."""
        return Sent(**self._all_sent().get(store, {}))

    def record(self, store: str, sent: Sent) -> None:
        """Notes what `store` has of it. Only for whom `sending` let in."""
        # The training may clear temporary names at any time.
        temporary = self.folder / f"{_SENT}.new"
        temporary.write_text(json.dumps(self._all_sent() | {store: asdict(sent)}))
        os.replace(temporary, self.folder / _SENT)

    def _all_sent(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self.folder / _SENT).read_text())
        except (OSError, ValueError):  # the events are sent again: none is doubled
            return {}
        return found

    def unsent(self, store: str) -> int:
        """Bytes of the events that `store` doesn't have."""
        try:
            size = (self.folder / _EVENTS).stat().st_size
        except FileNotFoundError:
            return 0
        return max(0, size - self.sent(store).offset)

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Lets one process at a time send; the others wait."""
        with (self.folder / _SENDING).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def live(self) -> Any:
        """Marks the run as alive until the file that it returns is closed or dies."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = (self.folder / _ALIVE).open("w")
        fcntl.flock(lock, fcntl.LOCK_SH)
        return lock

    def is_alive(self) -> bool:
        """Whether a process still logs the run."""
        with self._dead() as dead:
            return not dead

    def close_if_abandoned(self) -> None:
        """Ends a run whose processes were killed, as of its last event."""
        with self._dead() as dead:
            states = {"start", "resume", "end"}
            events = self.events() if dead else []
            last = [e.kind for e in events if e.kind in states]
            if last and last[-1] != "end":
                self.append("end", events[-1].time, status="KILLED")

    @contextmanager
    def _dead(self) -> Iterator[bool]:
        """Whether no process logs the run, and none starts to meanwhile."""
        try:
            lock = (self.folder / _ALIVE).open("w")
        except FileNotFoundError:
            yield True
            return
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
            else:
                yield True


def now() -> int:
    """Ms since 1970."""
    return round(time.time() * 1000)
