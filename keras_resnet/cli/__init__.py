"""The command line. TensorFlow is imported only by the commands that need it."""

from __future__ import annotations

# They add their commands.
from keras_resnet.cli import (  # noqa: F401
    analysis,
    convert,
    experiment,
    explain,
    leaderboard,
    networks,
    push,
    rate,
    runs,
    serve,
    tracking,
    tune,
)
from keras_resnet.cli.group import main

__all__ = ["main"]
