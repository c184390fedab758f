"""Weight files from their publishers: whole or not at all."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError

from filelock import FileLock
from rich.progress import Progress

from keras_resnet import limits
from keras_resnet.errors import WeightsError

TIMEOUT = 30  # seconds without a byte
CHUNK = 1 << 20
MD5_DIGITS = 32


def cache_folder() -> Path:
    """Where Keras keeps the weights of its applications."""
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"


def fetch(url: str, digest: str, path: Path) -> Path:
    """Downloads a file unless it is there, and checks its hash.

    What an interrupted download left is continued by the next call. Of several
    processes that want a file, one downloads it and the others wait.

    Args:
        url: where it is.
        digest: its MD5, or how its SHA-256 begins, in hexadecimal.
        path: where it is put.

    Returns:
        the path.

    Raises:
        WeightsError: no connection, the server refuses, or another file than expected.
    """
    try:
        if not path.is_file():  # a folder of files that are there may be read-only
            path.parent.mkdir(parents=True, exist_ok=True)
            # A kill unlocks it.
            with FileLock(path.with_name(f"{path.name}.lock")):
                if not path.is_file():  # nor did another process bring it
                    return _download_whole(url, digest, path)
        fits = _is(path, digest)
    except (OSError, HTTPException) as error:  # of the network or the disk
        reason: object
        if isinstance(error, HTTPError):
            error.close()
            reason = f"the server answers {error.code} {error.reason}"
        else:
            reason = getattr(error, "reason", error)
        raise WeightsError(
            f"weights: can't download {url}: {reason}; try again, or fetch it "
            f"elsewhere and put it at {path}"
        ) from None
    if not fits:
        raise WeightsError(
            f"weights: {path} is not the file of {url} ({_other(digest)}); delete it "
            "to download it again"
        )
    return path


def _download_whole(url: str, digest: str, path: Path) -> Path:
    """Downloads a file beside its place, and moves it there if it is the right one."""
    part = path.with_name(f"{path.name}.part")
    _download(url, part)
    if not _is(part, digest):
        part.unlink()
        raise WeightsError(
            f"weights: what {url} sent is not the file expected ({_other(digest)}); "
            "nothing is kept"
        )
    os.replace(part, path)
    return path


def _download(url: str, part: Path) -> None:
    """Downloads the rest of a file."""
    start = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except HTTPError as error:
        if error.code != 416 or not start:
            raise
        error.close()  # nothing is left to send, or it is another file
        return
    with response:
        resumed = response.status == 206
        length = int(response.headers.get("Content-Length") or 0)
        done = start if resumed else 0
        expected = done + length
        most = expected if length else limits.DOWNLOAD
        with part.open("ab" if resumed else "wb") as file, Progress() as progress:
            task = progress.add_task(part.stem, total=expected, completed=done)
            while chunk := response.read(CHUNK):
                done += len(chunk)
                if done > most:
                    raise OSError(f"it sends more than the {most:,} bytes it announced")
                file.write(chunk)
                progress.update(task, completed=done)
    if length and done < expected:
        raise OSError(f"the connection ended after {done:,} of {expected:,} bytes")


def _is(path: Path, digest: str) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, _kind(digest)).hexdigest().startswith(digest)


def _kind(digest: str) -> str:
    return "md5" if len(digest) == MD5_DIGITS else "sha256"


def _other(digest: str) -> str:
    return f"its {_kind(digest).upper()} doesn't begin with {digest}"
