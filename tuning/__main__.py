"""`python -m tuning`: as `keras-resnet tune`."""

from __future__ import annotations

import sys

from keras_resnet.cli import main

sys.argv[1:1] = ["tune"]
main(prog_name="python -m tuning")
