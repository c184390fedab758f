"""Where a run ran and on what: versions, hardware, commit, data. Kept with each run."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

from keras_resnet import runtime
from keras_resnet.data import Splits


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


def describe_data(data: Splits, seed: int) -> dict[str, Any]:
    """What is kept of the data: enough to load it again, and to know it again."""
    facts = {
        "source": data.arguments["source"] if data.arguments else "given",
        "seed": seed,
        "arguments": data.arguments,
        "classes": data.classes,
        "class_names": list(data.class_names),
        "image_shape": list(data.test_shape),
        "pixel_stats": [list(numbers) for numbers in data.pixel_stats],
        "counts": dict(data.counts),
        "steps": data.steps,
        "fingerprint": data.fingerprint,
        "crops_from": data.crops_from,
        "duplicates": dict(data.duplicates),
        "unreadable": list(data.unreadable),
    }
    if data.target_stats:
        facts["target_stats"] = [list(numbers) for numbers in data.target_stats]
    return facts


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
            errors="replace",
            timeout=10,
            check=True,
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None
