"""HDF5 files of others, rewritten by a process of their own before they are opened.

A damaged file may crash the HDF5 library, or keep it busy for ever. What it does so is
the other process, which has neither Keras nor TensorFlow:

    python -m keras_resnet.hdf5 SOURCE TARGET [BYTES]

writes the source's groups, numbers and attributes anew; only that copy is opened here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keras_resnet import limits, runtime

KERAS = ".keras"
MEMBER = "model.weights.h5"  # of a `.keras`
SECONDS = 20.0  # for a file, and as many more as it has RATE bytes
RATE = 2**23
ROOM = 2**30  # bytes of memory that the process takes before it reads anything
_REFUSED = 3  # exit code: the reason is on stdout


@contextmanager
def rewritten(
    path: Path, suffix: str = KERAS, most: int | None = None
) -> Iterator[Path]:
    """A copy of an HDF5 or `.keras` file, for as long as the body runs.

    Args:
        path: the file; what isn't a `.keras` is taken for HDF5.
        suffix: of the copy: `.keras`, or else the weights alone.
        most: bytes that its datasets may have together; None for the free memory.

    Raises:
        zipfile.BadZipFile: it is no archive.
        LimitError: it is damaged, leads to other files, or takes too much memory or
            time.
    """
    limits.check_regular(path)
    if path.name.lower().endswith(KERAS):
        with zipfile.ZipFile(path) as archive:
            sizes = [member.file_size for member in archive.infolist()]
        limits.check_memory(sum(sizes))
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / f"copy{suffix}"
        room = [] if most is None else [str(most)]
        command, environment = runtime.own_module("keras_resnet.hdf5")
        seconds = SECONDS + path.stat().st_size / RATE
        try:
            done = subprocess.run(
                [*command, str(path.absolute()), str(copy), *room],
                env=environment | {"OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise limits.LimitError(f"it takes over {seconds:.0f} s to read") from None
        if done.returncode == _REFUSED:
            raise limits.LimitError(done.stdout.decode(errors="replace").strip())
        if done.returncode:
            raise limits.LimitError(f"the HDF5 library crashes on it{_cause(done)}")
        yield copy


def _cause(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode < 0:
        return f" (signal {-done.returncode})"
    told = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
    return f": {told[0]}" if told else f" (exit code {done.returncode})"


def walk(file: Any) -> Iterator[tuple[str, Any]]:
    """Places and objects, each once, of an `h5py.File`: all lie in that file.

    Datasets may lie in other files (external storage, virtual datasets), and links may
    lead there: they would be read into weights.

    Raises:
        LimitError: one does.
    """
    import h5py

    seen: set[Any] = set()
    todo = [(file["/"], "")]
    while todo:
        group, place = todo.pop()
        yield place, group
        for name in group:
            where = f"{place}/{name}"
            kind = type(group.get(name, getlink=True))
            if kind is h5py.SoftLink:
                continue  # of this file; what it leads to has a hard link, or is none
            if kind is not h5py.HardLink:
                raise limits.LimitError(f"{limits.clean(where)} leads to another file")
            found = group[name]
            if found.id in seen:
                continue
            seen.add(found.id)
            if isinstance(found, h5py.Group):
                todo.append((found, where))
            elif isinstance(found, h5py.Dataset):
                if found.external or found.is_virtual:
                    raise limits.LimitError(
                        f"{limits.clean(where)} lies in another file"
                    )
                yield where, found


def _rewrite(source: Any, target: Path, most: int | None) -> None:
    """What `walk` finds, and its attributes, into a new file."""
    import h5py

    with h5py.File(source) as old:
        found = [each for _, each in walk(old) if isinstance(each, h5py.Dataset)]
        count = sum(each.size * each.dtype.itemsize for each in found if each.size)
        limits.check_size(count, count if most is None else most)
        # Attributes of the newest format may have more than 64 kB.
        with h5py.File(target, "w", libver="latest") as new:
            for place, each in walk(old):
                if isinstance(each, h5py.Dataset):
                    copied = new.create_dataset(place, data=each[()], dtype=each.dtype)
                else:
                    copied = new.require_group(place or "/")
                for name, value in each.attrs.items():
                    copied.attrs[name] = value


def _rewrite_member(source: Path, target: Path, most: int | None) -> None:
    """The weights of a `.keras`, alone or with its other members."""
    with zipfile.ZipFile(source) as archive:
        with tempfile.TemporaryFile() as held:
            held.write(limits.read_member(archive, MEMBER, most))
            weights = target.with_suffix(".h5")
            _rewrite(held, weights, most)
        if target == weights:
            return
        with zipfile.ZipFile(target, "w") as new:
            new.write(weights, MEMBER)
            for member in archive.infolist():
                if member.filename != MEMBER:
                    new.writestr(member.filename, archive.read(member))


def _limit(most: int | None) -> None:
    """Lets this process take so much memory, and leave no core file."""
    room = most if most is not None else limits.free_memory()
    runtime.limit_memory(None if room is None else ROOM + 3 * room)


def main(source: str, target: str, most: str = "") -> int:
    """Rewrites a file; the exit code."""
    import h5py  # noqa: F401

    from keras_resnet.errors import one_line

    size = int(most) if most else None
    _limit(size)
    rewrite = _rewrite_member if source.lower().endswith(KERAS) else _rewrite
    try:
        rewrite(Path(source), Path(target), size)
    except Exception as error:  # archives and HDF5 raise what they like
        print(getattr(error, "strerror", None) or one_line(error), flush=True)
        return _REFUSED
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    os._exit(main(*sys.argv[1:]))  # what HDF5 has in memory isn't tidied up
