"""Events of a run, as lines of JSON in its folder, and how many of them were sent.

`RUN/tracking/` holds `events.jsonl`, which only grows: each line is an event with its
kind and its time in ms. Any process may append; one at a time sends. `sent.json` says
for each store how far that came. Both may be damaged, or from somebody else: what isn't
an event is skipped, and no file or run outside the folder is read for it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from keras_resnet.limits import hide_passwords, read_text
from keras_resnet.tracking import origin

FOLDER = "tracking"
_EVENTS, _SENT = "events.jsonl", "sent.json"
# Locks, that a kill releases. Each process that logs the run holds one of its own.
_ADDING, _SENDING, _STARTING, _ALIVE = ".adding", ".sending", ".starting", ".alive-"


# Kind of event -> its fields. What isn't of these types is no event.
_TEXT = (str, type(None))
_NUMBER = (int, float)
KINDS: dict[str, dict[str, Any]] = {
    "start": {
        "store": str,
        "run": origin.RUN,
        "name": str,
        "experiment": str,
        "parent_folder": _TEXT,
        "parent_id": _TEXT,
    },
    "resume": {"store": str},
    "params": {"params": {str: str}},
    "tags": {"tags": {str: str}},
    "metrics": {"metrics": {str: _NUMBER}, "step": int},
    "data": {"name": str, "digest": str, "source": {str: object}, "profile": object},
    "file": {"path": str},
    "model": {"register": _TEXT},
    "end": {"status": str},
    "child": {"folder": str},
}


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
        """Whether this run has events, in files of its own."""
        path = self.folder / _EVENTS
        try:
            return path.is_file() and not (
                self.folder.is_symlink() or path.is_symlink()
            )
        except (OSError, ValueError):  # no name of a file
            return False

    def append(self, kind: str, at: int | None = None, **fields: Any) -> None:
        """Adds an event after those of other processes, in one write.

        Raises:
            OSError: it can't be written.
        """
        event = {"kind": kind, "time": at or now(), **fields}
        line = json.dumps(event, sort_keys=True).encode() + b"\n"
        self._make(anew=kind == "start")
        with (
            self._lock(_ADDING),
            open(self.folder / _EVENTS, "a+b", buffering=0, opener=private) as file,
        ):
            if size := file.seek(0, os.SEEK_END):
                file.seek(size - 1)
                if file.read(1) != b"\n":  # torn by a kill
                    line = b"\n" + line
            file.write(line)

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
            with suppress(ValueError, RecursionError):
                event = json.loads(line)
                if _is_event(event):
                    kind, at = event.pop("kind"), event.pop("time")
                    found.append(Event(kind, at, event, offset))
        return found

    def _make(self, *, anew: bool = True) -> None:
        if anew:  # else the run's folder was removed, and stays so
            self.run.mkdir(parents=True, exist_ok=True)
        if self.folder.is_symlink():  # it may lead anywhere
            raise OSError(f"{self.folder} is a link")
        self.folder.mkdir(mode=0o700, exist_ok=True)

    def is_ours(self) -> bool:
        """Whether the run was begun on this machine."""
        first = self.first()
        return first is not None and origin.store_of(first.fields["run"]) is not None

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
        children = [Buffer(self.run / folder) for folder in dict.fromkeys(folders)]
        # Elsewhere only what both were begun on this machine.
        return [
            child
            for child in children
            if not origin.same(child.run, self.run)
            and (
                origin.inside(self.run, child.run)
                or (child.is_ours() and self.is_ours())
            )
        ]

    def parent(self) -> Buffer | None:
        """The run that this one is nested in, if that one lists it."""
        first = self.first()
        if first is None or not first.fields["parent_folder"]:
            return None
        above = Buffer(self.run / first.fields["parent_folder"])
        listed = any(origin.same(c.run, self.run) for c in above.new_children())
        return Buffer(above.run) if listed else None

    def family(self) -> list[Buffer]:
        """This run and all that are nested in it."""
        own = Buffer(self.run)
        return [own, *(b for child in own.new_children() for b in child.family())]

    def sent(self, store: str) -> Sent:
        """What `store` has of it."""
        sent = _sent_of(self._all_sent().get(hide_passwords(store)))
        return sent if self._begins_at(sent.offset) else replace(sent, offset=0)

    def _begins_at(self, offset: int) -> bool:
        """Whether an event begins, or will, at a byte of the file."""
        if offset == 0 or not self.exists():
            return True
        with (self.folder / _EVENTS).open("rb") as file:
            file.seek(offset - 1)
            return file.read(1) == b"\n"

    def record(self, store: str, sent: Sent) -> None:
        """Notes what `store` has of it. Only for whom `sending` let in."""
        # The training may clear temporary names at any time.
        temporary = self.folder / f"{_SENT}.new"
        temporary.unlink(missing_ok=True)
        told = self._all_sent() | {hide_passwords(store): asdict(sent)}
        with open(temporary, "w", encoding="utf-8", opener=private) as file:
            file.write(json.dumps(told))
        os.replace(temporary, self.folder / _SENT)

    def _all_sent(self) -> dict[str, Any]:
        # What is damaged is left out: events are sent again, and none is doubled.
        with suppress(OSError, ValueError, RecursionError):
            found = json.loads(read_text(self.folder / _SENT))
            if isinstance(found, dict):
                return found
        return {}

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
        with self._lock(_SENDING):
            yield

    def live(self) -> FileLock:
        """Marks the run as alive until the lock is released, or the process dies."""
        self._make()
        lock = self._lock(f"{_ALIVE}{secrets.token_hex(8)}")
        with self._lock(_STARTING):
            lock.acquire()
        return lock

    def is_alive(self) -> bool:
        """Whether a process still logs the run."""
        return any(map(_is_held, self.folder.glob(f"{_ALIVE}*")))

    def close_if_abandoned(self) -> None:
        """Ends a run whose processes were killed, as of its last event."""
        if not self.exists():
            return
        with self._lock(_STARTING):  # none starts meanwhile
            if self.is_alive():
                return
            for left in self.folder.glob(f"{_ALIVE}*"):
                left.unlink()
            states = {"start", "resume", "end"}
            events = self.events()
            last = [e.kind for e in events if e.kind in states]
            if last and last[-1] != "end":
                self.append("end", events[-1].time, status="KILLED")

    def _lock(self, name: str) -> FileLock:
        # A tracker may be closed by another thread than started it.
        return FileLock(self.folder / name, mode=0o600, thread_local=False)


def _is_held(path: Path) -> bool:
    try:
        with FileLock(path, mode=0o600, blocking=False):
            return False
    except Timeout:
        return True


def _is_event(event: Any) -> bool:
    return (
        isinstance(event, dict)
        and isinstance(event.get("kind"), str)
        and event["kind"] in KINDS
        and type(event.get("time")) is int
        and 0 <= event["time"] < 2**53
        and all(
            name in event and _is_of(event[name], kind)
            for name, kind in KINDS[event["kind"]].items()
        )
        and isinstance(event.get("metrics", []), list | dict)
    )


def _is_of(value: Any, kind: Any) -> bool:
    if isinstance(kind, Mapping):
        [inner] = kind.values()
        return isinstance(value, dict) and all(_is_of(v, inner) for v in value.values())
    if isinstance(kind, re.Pattern):
        return isinstance(value, str) and kind.fullmatch(value) is not None
    if kind in (int, _NUMBER) and isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 2**53
    return isinstance(value, kind)


def _sent_of(told: Any) -> Sent:
    """What is told of a store, as far as it is of the right types."""
    kinds = {"offset": int, "run_id": _TEXT, "model_id": _TEXT, "error": _TEXT}
    if not isinstance(told, dict) or any(
        name not in told or not _is_of(told[name], kind) for name, kind in kinds.items()
    ):
        return Sent()
    refused = told.get("refused")
    lines = [str(line) for line in refused] if isinstance(refused, list) else []
    known = {name: told[name] for name in kinds}
    return Sent(**known | {"offset": max(0, known["offset"]), "refused": lines})


def private(path: str, flags: int) -> int:
    """Opens a file for its owner alone; a link, which may lead anywhere, is refused."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)


def now() -> int:
    """Ms since 1970."""
    return round(time.time() * 1000)
