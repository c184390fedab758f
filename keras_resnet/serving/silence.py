"""Other packages' tools, without what they print."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

_OUTPUTS = (1, 2)  # of the process, where code that isn't Python's writes


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Leads what is printed nowhere, by Python and by what it calls.

    Converters and runtimes tell their progress and their versions; what is wrong they
    raise.
    """
    with contextlib.ExitStack() as stack:
        null = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for output in _OUTPUTS:
            try:
                kept = os.dup(output)
            except OSError:  # it is closed
                continue
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, output)
            os.dup2(null.fileno(), output)
        stack.enter_context(contextlib.redirect_stdout(null))
        stack.enter_context(contextlib.redirect_stderr(null))
        yield
