"""MLflow: every run with its parameters, metrics, files, data and model.

The run folder is the truth. What happens is appended to `RUN/tracking/events.jsonl`,
and another process sends it on: training never waits for a tracking server. What
could not be sent is sent by `keras-resnet sync`.
"""

from __future__ import annotations

from keras_resnet.tracking.tracker import (
    MLflowTracker,
    Tracker,
    TrackingError,
    closing,
)

__all__ = ["MLflowTracker", "Tracker", "TrackingError", "closing"]
