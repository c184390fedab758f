"""Which runs were begun on this machine, and where they are to go.

That is kept outside the run folders, which may come from somebody else: a folder alone
can't name a store, nor files of other folders.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

RUN = re.compile(r"[0-9a-f]{32}")  # a run's own id, as `uuid4().hex`


def _folder() -> Path:
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "keras_resnet" / "runs"


def remember(run: str, store: str) -> None:
    """Keeps where a run of this machine is to go; a home that is read-only keeps none.

    Args:
        run: its own id, as of its first event.
        store: the store's address, without a password.
    """
    with suppress(OSError, RuntimeError):  # without a home
        _folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        path = _folder() / run
        path.touch(0o600)
        path.write_text(store, "utf-8")


def store_of(run: str) -> str | None:
    """Where a run of this machine is to go; None for any other."""
    if not RUN.fullmatch(run):
        return None
    try:
        return (_folder() / run).read_text("utf-8") or None
    except (OSError, RuntimeError, UnicodeDecodeError):
        return None


def inside(folder: Path, path: Path) -> bool:
    """Whether what a path leads to, links followed, lies in a folder."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # a link to itself, no name of a file
        return False


def same(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same place."""
    return inside(one, other) and inside(other, one)


def is_own(folder: Path, path: Path) -> bool:
    """Whether a file, or all of a folder, lies in `folder`; no pipe, no device."""
    parts = [path, *path.rglob("*")] if path.is_dir() else [path]
    return all(
        inside(folder, part) and (part.is_file() or part.is_dir()) for part in parts
    )
