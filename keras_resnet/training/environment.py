"""Where a run ran: versions, hardware, commit. Kept with every run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

_PACKAGES = ("keras-residual", "tensorflow", "keras", "numpy", "mlflow", "scikit-learn")


def describe_environment() -> dict[str, Any]:
    """Versions, processors, devices, oneDNN and the commit of this package."""
    import keras
    import tensorflow as tf

    return {
        "backend": keras.backend.backend(),
        "commit": _commit(),
        "cores": os.cpu_count(),
        "devices": [device.name for device in tf.config.list_physical_devices()],
        "onednn": _onednn(),
        "platform": platform.platform(),
        "precision": keras.mixed_precision.global_policy().name,
        "python": platform.python_version(),
        "versions": {package: _version(package) for package in _PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _onednn() -> bool | None:
    """Whether oneDNN's kernels are on: equal seeds give other last digits without."""
    try:
        from tensorflow.python.util import _pywrap_util_port
    except ImportError:
        return None
    return bool(_pywrap_util_port.IsMklEnabled())


def _commit() -> str | None:
    """The git commit that this package runs from, "+" where it was changed."""
    here = Path(__file__).parents[2]
    if not (here / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None
