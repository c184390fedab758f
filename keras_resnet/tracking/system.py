"""Use of the machine, sampled into a run's events under MLflow's own names.

MLflow's `SystemMetricsMonitor` ends for good when the server fails once; its parts that
read the machine do not need a server.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from keras_resnet.tracking.buffer import Buffer

PREFIX = "system/"
INTERVAL = (
    10  # seconds, as MLflow's; MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL changes it
)


class SystemSampler:
    """Samples processor, memory, disk, network and GPUs now and then."""

    def __init__(self, buffer: Buffer) -> None:
        from mlflow.environment_variables import (
            MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL as CHOSEN,
        )

        self.buffer = buffer
        self.interval = CHOSEN.get() or INTERVAL
        self.monitors = _monitors()
        steps = [
            event.fields["step"]
            for event in buffer.events()
            if event.kind == "metrics"
            and any(key.startswith(PREFIX) for key in event.fields["metrics"])
        ]
        self.step = max(steps, default=-1) + 1
        self.due = time.monotonic() + self.interval

    def sample_if_due(self) -> None:
        """Adds a sample, unless the last one was just now."""
        if time.monotonic() < self.due:
            return
        self.due = time.monotonic() + self.interval
        metrics: dict[str, float] = {}
        for monitor in self.monitors:
            monitor.collect_metrics()
            metrics |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        named = {PREFIX + key: float(value) for key, value in metrics.items()}
        self.buffer.append("metrics", metrics=named, step=self.step)
        self.step += 1


def _monitors() -> list[Any]:
    """MLflow's readers of what this machine has."""
    from mlflow.system_metrics.metrics import (
        cpu_monitor,
        disk_monitor,
        gpu_monitor,
        network_monitor,
    )

    monitors: list[Any] = [
        cpu_monitor.CPUMonitor(),
        disk_monitor.DiskMonitor(),
        network_monitor.NetworkMonitor(),
    ]
    with suppress(Exception):  # no GPU, no driver or no package that asks it
        monitors.append(gpu_monitor.GPUMonitor())
    return monitors
