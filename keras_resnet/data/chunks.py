"""Work on many files, in threads and with progress."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeRemainingColumn

CHUNK = 256  # files that a thread is handed at a time
SHOWN = 8  # chunks from which on progress is shown


def in_chunks(
    work: Callable[[int], None],
    numbers: np.ndarray,
    title: str,
    console: Console | None,
) -> None:
    """Calls `work` with each number, in threads; its first exception ends all.

    Args:
        work: what is done.
        numbers: int (n,).
        title: what it is called beside its progress.
        console: where that is shown, if it takes long.
    """

    def chunk(some: np.ndarray) -> int:
        for i in some.tolist():
            work(i)
        return len(some)

    chunks = np.array_split(numbers, -(-len(numbers) // CHUNK))
    with (
        warnings.catch_warnings(action="ignore"),  # Pillow's, of what is read as it is
        ThreadPoolExecutor(thread_name_prefix="files") as pool,
        Progress(
            TextColumn("data: {task.description}"),
            *Progress.get_default_columns()[1:3],
            TextColumn("{task.completed:,} of {task.total:,} images"),
            TimeRemainingColumn(),
            console=console,
            disable=console is None or len(chunks) < SHOWN,
            transient=True,
        ) as progress,
    ):
        task = progress.add_task(title, total=len(numbers))
        try:
            for done in pool.map(chunk, chunks):
                progress.advance(task, done)
        except BaseException:  # Ctrl-C doesn't wait for all that is left
            pool.shutdown(cancel_futures=True)
            raise
