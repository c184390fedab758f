"""Ctrl-C and SIGTERM: a training ends after the step under way."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_asked: list[int] = []  # for the process, as signals are


class Stopped(KeyboardInterrupt):
    """A training that was asked to stop.

    Attributes:
        code: the exit code that a shell gives, 130 or 143.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.code = 128 + number


@contextmanager
def heard() -> Iterator[None]:
    """Lets the first signal wait for who asks; the second one ends the process.

    Threads other than the main one can't hear any.

    Raises:
        Stopped: one came that nobody asked for.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, frame: Any) -> None:
        _asked.append(number)
        restore()

    for number in _SIGNALS:
        signal.signal(number, ask)
    try:
        yield
        if _asked:
            raise Stopped(_asked[0])
    finally:
        _asked.clear()
        restore()


def asked() -> int | None:
    """The signal that came, if one did."""
    return _asked[0] if _asked else None
