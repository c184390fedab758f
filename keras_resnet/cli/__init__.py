"""The command line. TensorFlow is imported only by the commands that need it."""

from __future__ import annotations

try:  # Ctrl-C while they are imported is no mistake
    from keras_resnet.cli import (  # noqa: F401, they add their commands
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
except KeyboardInterrupt:
    raise SystemExit(130) from None

__all__ = ["main"]
