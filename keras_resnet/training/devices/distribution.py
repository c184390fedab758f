"""Which devices a training runs on, and what several of them ask for.

One device, the GPUs of a machine (MirroredStrategy), or several processes on one or
many machines (MultiWorkerMirroredStrategy, described by TF_CONFIG). Whatever the
number, a batch is the recipe's: replicas share it, so no learning rate is scaled.

What a strategy says of itself is in `strategy`, what works on batches and models in
`replicas`; no TensorFlow at import here.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

from keras_resnet.errors import one_line
from keras_resnet.training.devices.cluster import (
    Cluster,
    DistributionError,
    check_port,
    read_cluster,
    share,
)
from keras_resnet.training.devices.strategy import (
    check_strategy,
    is_chief,
    is_multiworker,
    replicas_of,
    scope,
)

StrategyName = Literal["auto", "one", "mirrored", "multiworker"]
__all__ = [
    "HEARTBEAT",
    "STRATEGIES",
    "WAIT",
    "DistributionError",
    "check_strategy",
    "cooperating",
    "is_chief",
    "is_multiworker",
    "make_strategy",
    "precision",
    "precision_of",
    "replicas_of",
    "scope",
]

STRATEGIES: tuple[str, ...] = get_args(StrategyName)
WAIT = 300.0  # seconds for all workers to appear
HEARTBEAT = 10.0  # seconds without a sign of life after which a worker counts as lost

# TensorFlow's abort of a collective, the tasks in it, what a worker said of itself.
_ABORTED = "Collective ops is aborted by:"
_TASK = re.compile(r"/job:(\w+)(?:/replica:\d+)?/task:(\d+)")
_SAID = re.compile(r"\[(\w+ \d+) stopped\] (.+)")


def make_strategy(name: str = "auto", *, wait: float = WAIT) -> Any:
    """A `tf.distribute` strategy to train under; None for one device.

    Call it before TensorFlow does anything else: devices are configured (GPU memory
    grows as needed; processes that share a machine get their own GPUs), and workers
    find each other. Every worker must call it.

    Args:
        name: "auto": multiworker if TF_CONFIG names several workers, mirrored if there
            are several GPUs, else one; "one"; "mirrored": all GPUs of this process, or
            its logical CPUs; "multiworker": as TF_CONFIG says.
        wait: seconds for all workers to appear.

    Raises:
        DistributionError: no such strategy, too few devices, a malformed TF_CONFIG, a
            port in use, or a worker that did not appear.
    """
    if name not in STRATEGIES:
        raise DistributionError(
            f"strategy: {name!r} is not one of {', '.join(map(repr, STRATEGIES))}"
        )
    cluster = read_cluster() if name in ("auto", "multiworker") else None
    several = cluster is not None and cluster.size > 1
    if name == "multiworker" and not several:
        raise DistributionError(
            "strategy: 'multiworker' needs TF_CONFIG with several workers; for two on "
            "this machine: python -m keras_resnet.training.launch 2 COMMAND"
        )
    gpus = _prepare_gpus(os.environ)
    if cluster is not None and several:
        return _multiworker(cluster, wait)
    if name == "one" or (name == "auto" and gpus < 2):
        return None
    return _mirrored()


def _prepare_gpus(environment: Mapping[str, str]) -> int:
    """Lets memory grow and takes this process' share; the number of GPUs.

    As torchrun, a launcher of several processes on a machine sets LOCAL_RANK and
    LOCAL_WORLD_SIZE.
    """
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    mine = share(
        gpus,
        int(environment.get("LOCAL_RANK", 0)),
        int(environment.get("LOCAL_WORLD_SIZE", 1)),
    )
    # Too late once TensorFlow has started; its devices are then what they are.
    with contextlib.suppress(RuntimeError):
        if len(mine) < len(gpus):
            tf.config.set_visible_devices(mine, "GPU")
        for gpu in mine:
            tf.config.experimental.set_memory_growth(gpu, True)
    return len(mine)


def _mirrored() -> Any:
    """All GPUs of this process, or all of its logical CPUs."""
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU")
    devices = devices or tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        raise DistributionError(
            f"strategy: 'mirrored' needs several devices; TensorFlow sees "
            f"{devices[0].name} only"
        )
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _multiworker(cluster: Cluster, wait: float) -> Any:
    import tensorflow as tf

    # TensorFlow waits for ever by default, and has no public setting.
    from tensorflow.compiler.xla.tsl.protobuf import coordination_config_pb2 as protocol
    from tensorflow.python.eager import context

    from keras_resnet.training.devices import multiworker

    multiworker.correct_fit()
    check_port(cluster.jobs[cluster.job][cluster.number])
    jobs = [
        protocol.CoordinatedJob(name=job, num_tasks=len(addresses))
        for job, addresses in cluster.jobs.items()
    ]
    context.context().configure_coordination_service(
        "standalone",
        service_leader=f"/job:{cluster.leader}/replica:0/task:0",
        cluster_register_timeout_in_ms=int(wait * 1000),
        heartbeat_timeout_in_ms=int(HEARTBEAT * 1000),
        coordinated_jobs=jobs,
    )
    context.context().coordination_service.cluster_register_with_barrier = True
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (tf.errors.DeadlineExceededError, tf.errors.UnavailableError) as error:
        _, _, late = str(error).partition("timed out task names:\n")
        late, _, _ = late.partition("\n\n")
        # Where the chief is not there, nobody knows who else isn't.
        missing = sorted(set(_TASK.findall(late))) or [(cluster.leader, "0")]
        names = ", ".join(
            f"{job} {index} ({cluster.jobs[job][int(index)]})" for job, index in missing
        )
        raise DistributionError(
            f"strategy: {names} did not appear within {wait:g} s; start all "
            f"{cluster.size} of TF_CONFIG's tasks"
        ) from None
    except RuntimeError as error:
        if "startup" not in str(error):
            raise
        raise DistributionError(
            "strategy: 'multiworker' must be made before TensorFlow is used; make it "
            "first"
        ) from None


@contextlib.contextmanager
def cooperating(strategy: Any) -> Iterator[None]:
    """Around all that workers do together: they go on together or end together.

    An error here ends the other workers at once with its first line. A worker that is
    killed ends them in about `HEARTBEAT` seconds. Nobody leaves before all are done.

    Raises:
        DistributionError: another worker failed or was lost.
    """
    if not is_multiworker(strategy):
        yield
        return
    try:
        yield
        strategy.reduce("SUM", 1.0, axis=None)  # waits for all
    except BaseException as error:
        lost = _lost(str(error))
        if lost:
            raise DistributionError(lost) from None
        _notify_others(error)
        raise


def _lost(message: str) -> str | None:
    """What happened to which worker, by TensorFlow's error; None for errors here."""
    _, found, reason = message.partition(_ABORTED)
    if not found:
        return None
    said = _SAID.search(reason)
    if said:
        return f"training: {said[1]} stopped: {said[2]}"
    tasks = _TASK.findall(reason)
    who = f"{tasks[0][0]} {tasks[0][1]}" if tasks else "the chief"
    return (
        f"training: {who} was lost: no sign of life from it. Start all workers again, "
        "with the same folder, to go on from the last epoch"
    )


def _notify_others(error: BaseException) -> None:
    from tensorflow.python.eager import context
    from tensorflow.python.framework import errors

    cluster = read_cluster()
    me = f"{cluster.job} {cluster.number}" if cluster else "a worker"
    # If the cluster is gone already, there is nobody left.
    with contextlib.suppress(errors.OpError):
        context.context().report_error_to_cluster(
            errors.ABORTED, f"[{me} stopped] {one_line(error)[:300]}"
        )


def precision() -> str:
    """The Keras policy of dtypes that is fast on this machine's GPUs."""
    import tensorflow as tf

    gpus = tf.config.get_visible_devices("GPU")
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return precision_of([d.get("compute_capability", (0, 0)) for d in details])


def precision_of(capabilities: Sequence[tuple[int, int]]) -> str:
    """By the compute capabilities of NVIDIA's GPUs, of which the least decides.

    Tensor cores take float16 from 7.0 (Volta) and bfloat16, which needs no loss
    scaling, from 8.0 (Ampere). On CPU, and elsewhere, float32.
    """
    least = min(capabilities, default=(0, 0))
    if least >= (8, 0):
        return "mixed_bfloat16"
    return "mixed_float16" if least >= (7, 0) else "float32"
