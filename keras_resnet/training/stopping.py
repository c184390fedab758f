"""Ctrl-C and SIGTERM: a training ends after the step under way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_requests: list[int] = []  # for the process, as signals are


class Stopped(KeyboardInterrupt):
    """A training that was asked to stop.

    Attributes:
        code: the exit code that a shell gives, 130 or 143.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.code = 128 + number


@contextmanager
def deferred() -> Iterator[None]:
    """The first signal waits until `requested` is called; the second ends the process.

    Signals come to the main thread alone; in another one nothing changes.

    Raises:
        Stopped: one came, and `requested` was not called after it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def keep(number: int, frame: Any) -> None:
        _requests.append(number)
        restore()

    for number in _SIGNALS:
        signal.signal(number, keep)
    try:
        yield
        if _requests:
            raise Stopped(_requests[0])
    finally:
        _requests.clear()
        restore()


def requested() -> int | None:
    """The signal that came, if one did."""
    return _requests[0] if _requests else None
