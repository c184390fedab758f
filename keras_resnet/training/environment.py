"""Where a run ran: versions, hardware, commit. Kept with every run."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

from keras_resnet import runtime


def describe_environment() -> dict[str, Any]:
    """Versions, processor, devices, oneDNN and the commit of this package.

    Equal seeds give other last digits on another processor or without oneDNN.
    """
    return {
        **runtime.describe(),
        "commit": _commit(),
        "platform": platform.platform(),
        "versions": runtime.versions(),
    }


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
