"""Where runs are sent to, and how patiently."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEFAULT_STORE = "sqlite:///mlflow.db"

# MLflow's own defaults wait for minutes on a dead server, send usage statistics, and
# log each table of a new database.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
_TIMEOUT, _UPLOAD = "MLFLOW_HTTP_REQUEST_TIMEOUT", "60"


def store_address() -> str:
    """The store's address of this process, good in any working folder."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_STORE
    path = re.fullmatch(r"sqlite:///([^/:].*)", uri)
    return f"sqlite:///{Path(path[1]).absolute()}" if path else uri


def ui_command(address: str) -> str:
    """How to look at what is in a store."""
    if not address.startswith("sqlite:"):
        return f"MLflow at {address}"
    default = f"sqlite:///{Path('mlflow.db').absolute()}"
    return "mlflow ui" + (
        "" if address == default else f" --backend-store-uri {shlex.quote(address)}"
    )


def set_environment() -> None:
    """Sets what MLflow reads, where the user hasn't."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


@contextmanager
def uploading() -> Iterator[None]:
    """Longer waits: a server may pass a file on before it answers."""
    before = os.environ[_TIMEOUT]
    os.environ[_TIMEOUT] = max(before, _UPLOAD, key=float)
    try:
        yield
    finally:
        os.environ[_TIMEOUT] = before
