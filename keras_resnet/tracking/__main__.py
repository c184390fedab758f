"""`python -m keras_resnet.tracking RUN`: sends a run while it trains."""

from __future__ import annotations

import sys
from pathlib import Path

from keras_resnet.tracking.address import store_address
from keras_resnet.tracking.writer import follow

follow(Path(sys.argv[1]), store_address())
