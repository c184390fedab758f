"""The folder of a model's versions, while one is written."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from keras_resnet import files
from keras_resnet.errors import ExportError
from keras_resnet.run import LOCK
from keras_resnet.serving import runtimes


@contextlib.contextmanager
def writing(path: Path, below: Sequence[Path]) -> Iterator[None]:
    """Makes a model's folder, and keeps other exports out of it.

    What one that was killed left half written is removed; the kill unlocked the folder.
    If the body fails, no folder is left that is new.

    Args:
        path: the model's folder.
        below: those in it that versions are written to.

    Raises:
        ExportError: it can't be made, or another export writes to it.
    """
    wanted = dict.fromkeys([*reversed(path.parents), path, *below])
    new = [folder for folder in wanted if not folder.exists()]
    lock = FileLock(path / LOCK, blocking=False)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        for place in (path, *(path / name for name in runtimes.FORMATS)):
            for left in place.glob(f"{files.TEMPORARY}????????-*"):
                if left.name.rpartition("-")[2].isdigit():  # a version, no file
                    shutil.rmtree(left)
        yield
    except Timeout:
        raise ExportError(
            f"path: another export writes to {path}; start again when it has ended"
        ) from None
    except BaseException as error:
        with contextlib.suppress(OSError):  # another process has filled it
            if path in new:
                (path / LOCK).unlink()
            for folder in reversed(new):
                folder.rmdir()
        if isinstance(error, OSError):
            raise ExportError(
                f"path: can't write to {path}: {error.strerror}"
            ) from None
        raise
    finally:
        lock.release()
