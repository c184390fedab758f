"""The processes that train one model: TF_CONFIG, and shares of a machine."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from keras_resnet.errors import UserError

_FORM = (
    '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", '
    '"index": 0}}'
)


class DistributionError(UserError):
    """A training that these devices or workers can't do."""


class Cluster(NamedTuple):
    """Workers of one training, as TF_CONFIG has them.

    Attributes:
        jobs: addresses, "host:port", by job: "worker", and "chief" if there is one.
        job: this process' job.
        number: its number in the job, TF_CONFIG's index.
    """

    jobs: dict[str, list[str]]
    job: str
    number: int

    @property
    def size(self) -> int:
        """Number of processes."""
        return sum(map(len, self.jobs.values()))

    @property
    def leader(self) -> str:
        """The job whose first task is the chief."""
        return "chief" if "chief" in self.jobs else "worker"


def read_cluster(environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """The cluster of TF_CONFIG; None where it is not set or names none.

    Raises:
        DistributionError: it is malformed, or has jobs other than chief and worker.
    """
    text = environment.get("TF_CONFIG", "").strip()
    if not text:
        return None
    try:
        config = json.loads(text)
    except ValueError as error:
        raise DistributionError(f"TF_CONFIG: not JSON ({error}): {_FORM}") from None
    jobs = config.get("cluster") if isinstance(config, dict) else None
    if isinstance(config, dict) and not jobs:
        return None
    if not isinstance(jobs, dict) or not all(map(_are_addresses, jobs.values())):
        raise DistributionError(f"TF_CONFIG: no lists of host:port: {_FORM}")
    others = sorted(set(jobs) - {"chief", "worker"})
    if others:
        raise DistributionError(
            f"TF_CONFIG: job {others[0]!r}: Keras 3 trains with 'worker' and 'chief' "
            "only; it has no parameter servers and no evaluator"
        )
    addresses = [address for job in jobs.values() for address in job]
    if len(set(addresses)) < len(addresses):
        raise DistributionError("TF_CONFIG: one address is given to two tasks")
    if len(jobs.get("chief", [])) > 1:
        raise DistributionError("TF_CONFIG: more than one chief")
    task = config.get("task")
    fields = task if isinstance(task, dict) else {}
    job, number = str(fields.get("type")), fields.get("index")
    if type(number) is not int or not 0 <= number < len(jobs.get(job, [])):
        listed = ", ".join(f"{name} 0 to {len(jobs[name]) - 1}" for name in jobs)
        raise DistributionError(
            f"TF_CONFIG: task {json.dumps(task)} is not in the cluster, which has "
            f"{listed}"
        )
    return Cluster(jobs, job, number)


def _are_addresses(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(a, str) and re.fullmatch(r".+:\d{1,5}", a) for a in value)
    )


def check_port(address: str) -> None:
    """Refuses a port that is in use: TensorFlow would share it in silence.

    Raises:
        DistributionError: it is in use, or no port.
    """
    port = int(address.rpartition(":")[2])
    with socket.socket() as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            own.bind(("", port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DistributionError(
                f"TF_CONFIG: this task can't listen on {address}: {reason}"
            ) from None


def share(devices: Sequence[Any], rank: int, processes: int) -> list[Any]:
    """The devices of one of several processes on a machine.

    Raises:
        DistributionError: they can't have equal numbers of them.
    """
    if len(devices) % processes:
        raise DistributionError(
            f"strategy: {processes} processes can't share {len(devices)} GPUs equally"
        )
    return list(devices[rank::processes])
