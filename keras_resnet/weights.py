"""Weight files: fetched whole or not at all, loaded or refused in one line."""

from __future__ import annotations

import hashlib
import os
import urllib.request
import warnings
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from zipfile import BadZipFile

from rich.progress import Progress

from keras_resnet.errors import UserError

TIMEOUT = 30  # seconds without a byte
CHUNK = 1 << 20


class WeightsError(UserError):
    """Weights that can't be fetched or don't fit."""


def cache_folder() -> Path:
    """Where Keras keeps the weights of its applications."""
    return Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"


def fetch(url: str, md5: str, path: Path) -> Path:
    """Downloads a file unless it is there, and checks its hash.

    What an interrupted download left is continued by the next call.

    Args:
        url: where it is.
        md5: its hash.
        path: where it is put.

    Raises:
        WeightsError: no connection, the server refuses, or another file than expected.
    """
    if path.is_file():
        if _md5(path) == md5:
            return path
        raise WeightsError(
            f"weights: {path} is not the file of {url} (its MD5 is not {md5}); "
            "delete it to download it again"
        )
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _download(url, part)
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
    if _md5(part) != md5:
        part.unlink()
        raise WeightsError(
            f"weights: what {url} sent is not the file expected (its MD5 is not "
            f"{md5}); nothing is kept"
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
        with part.open("ab" if resumed else "wb") as file, Progress() as progress:
            task = progress.add_task(part.stem, total=expected, completed=done)
            while chunk := response.read(CHUNK):
                file.write(chunk)
                done += len(chunk)
                progress.update(task, completed=done)
    if length and done < expected:
        raise OSError(f"the connection ended after {done:,} of {expected:,} bytes")


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def load_file(model: Any, path: Path | str) -> None:
    """Loads a `.weights.h5`, a keras.applications' `.h5` or a `.keras` into a model.

    Keras matches the layers of a class by their order.

    Raises:
        WeightsError: no such file, or one that lacks weights or has other shapes.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"weights: there is no file {path}")
    before = model.get_weights()
    try:
        with warnings.catch_warnings():
            # Keras skips what it does not find, and only warns of it.
            warnings.filterwarnings("error", message="Skipping nested container")
            model.load_weights(path)
    except (ValueError, OSError, KeyError, UserWarning, BadZipFile) as error:
        model.set_weights(before)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(
            f"weights: {path} doesn't fit {model.name}: {reason}"
        ) from None
