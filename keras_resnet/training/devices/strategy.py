"""What a `tf.distribute` strategy says of itself; None stands for one device."""

from __future__ import annotations

import contextlib
from typing import Any

from keras_resnet.training.devices.cluster import DistributionError


def is_multiworker(strategy: Any) -> bool:
    """Whether a strategy spans several processes."""
    return strategy is not None and _workers(strategy) > 1


def _workers(strategy: Any) -> int:
    return int(getattr(strategy.extended, "_num_workers", 1))


def is_chief(strategy: Any) -> bool:
    """Whether this process is the one that writes: folder, tracking, export."""
    return strategy is None or bool(strategy.extended.should_checkpoint)


def replicas_of(strategy: Any) -> int:
    """Devices that share a batch."""
    return 1 if strategy is None else int(strategy.num_replicas_in_sync)


def scope(strategy: Any) -> contextlib.AbstractContextManager[Any]:
    """What models are built and compiled under; nothing on one device."""
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def check_strategy(
    strategy: Any,
    *,
    steps_per_execution: int = 1,
    clip_norm: float = 0.0,
) -> None:
    """Refuses what Keras 3 can't train with on TensorFlow.

    Raises:
        DistributionError: with the reason.
    """
    if strategy is None:
        return
    kind = type(strategy).__name__
    if kind.startswith(("ParameterServer", "TPU", "CentralStorage")):
        raise DistributionError(
            f"strategy: {kind}: Keras 3's fit on TensorFlow supports MirroredStrategy "
            "and, corrected here, MultiWorkerMirroredStrategy"
        )
    if steps_per_execution != 1:
        raise DistributionError(
            f"steps_per_execution: {steps_per_execution}: Keras 3 runs one step at a "
            "time under tf.distribute (its loop over steps does not compile)"
        )
    if clip_norm:
        raise DistributionError(
            f"clip_norm: {clip_norm:g}: Keras clips each replica's part of the "
            "gradient, not the sum; set it to 0 or train on one device"
        )
