"""The machine: devices, cores, what is slow here, what each system does its way.

oneDNN is switched on before TensorFlow is imported or never: a command's process does
so (`prepare`); a library must not, and says where it is off (`warn_once`).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.metadata
import logging
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_resnet.errors import UserError

ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
# Those that kernels of convolutions are written for, the widest last.
INSTRUCTION_SETS = ("fma", "avx2", "avx512f", "avx512_bf16", "amx_tile", "asimd", "sve")
BFLOAT16_SETS = ("amx_tile", "avx512_bf16")
PACKAGES = ("keras-residual", "tensorflow", "keras", "numpy", "mlflow", "scikit-learn")


class SlowKernels(UserWarning):
    """Training and inference will take longer than they need."""


def prepare() -> None:
    """Imports TensorFlow quietly and with oneDNN's kernels.

    They are off by default on some processors, and much faster. TensorFlow takes a
    thread a core of the machine; where a container's quota is smaller, it takes that
    many. Settings of the user's environment win; of Keras' backend keras.json has no
    say.

    Raises:
        UserError: another backend of Keras is set in the environment.
    """
    check_backend(os.environ.setdefault("KERAS_BACKEND", "tensorflow"))
    os.environ.setdefault(ONEDNN, "1")
    cores = usable_cores()
    if cores < (os.cpu_count() or cores):
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(cores))
        os.environ.setdefault("TF_NUM_INTEROP_THREADS", str(cores))
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") in ("0", "1"):
        return
    # Each trial of a search has functions of its own, which it takes for a mistake.
    logging.getLogger("tensorflow").addFilter(
        lambda record: "function retracing" not in record.getMessage()
    )
    # While it starts, TensorFlow writes a dozen lines that no setting silences; they
    # are held back, and shown if it does not start.
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as held, _ctrl_c_waits():
        os.dup2(held.fileno(), 2)
        try:
            import tensorflow as tf

            tf.config.list_physical_devices()
        except BaseException:
            held.seek(0)
            os.write(terminal, held.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


@contextlib.contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Ctrl-C waits: C++ that is being loaded aborts by exceptions, or clears them."""
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    pressed = False

    def stop(number: int, frame: Any) -> None:
        nonlocal pressed
        pressed = True

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if pressed:
        raise KeyboardInterrupt


def check_backend(name: str) -> None:
    """Refuses another backend of Keras than TensorFlow.

    Raises:
        UserError: it is another.
    """
    if name != "tensorflow":
        raise UserError(
            f"KERAS_BACKEND: {name!r}, but keras_resnet runs on TensorFlow; set "
            "KERAS_BACKEND=tensorflow in the environment"
        )


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Processor cores of this process: by its affinity and its container's quota."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    try:
        if (cgroup / "cpu.max").is_file():
            quota, period = (cgroup / "cpu.max").read_text("utf-8").split()
        else:
            quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text("utf-8")
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text("utf-8")
        if float(quota) > 0:
            cores = min(cores, max(1, round(float(quota) / float(period))))
    except (OSError, ValueError):
        pass  # no quota, or "max"
    return cores


def has_gpu() -> bool:
    """Whether TensorFlow sees a GPU."""
    import tensorflow as tf

    return bool(tf.config.list_physical_devices("GPU"))


def onednn_is_on() -> bool:
    """Whether TensorFlow's CPU kernels are oneDNN's."""
    from tensorflow.python.util import _pywrap_util_port

    return bool(_pywrap_util_port.IsMklEnabled())


def _threads() -> int:
    """Threads that TensorFlow computes with: as set, or one a core of the machine."""
    import tensorflow as tf

    return (
        tf.config.threading.get_intra_op_parallelism_threads()
        or int(os.environ.get("TF_NUM_INTRAOP_THREADS", 0))
        or os.cpu_count()
        or 1
    )


def remedies() -> list[str]:
    """What to change here to train faster, a sentence each."""
    found = []
    # TensorFlow for macOS is built without it.
    if not (has_gpu() or onednn_is_on() or platform.system() == "Darwin"):
        found.append(
            f"oneDNN is off, whose kernels are up to several times faster on CPU: set "
            f"{ONEDNN}=1 in the environment before TensorFlow is imported"
        )
    threads, cores = _threads(), usable_cores()
    if threads > cores:
        found.append(
            f"TensorFlow takes {threads} threads on {cores} usable cores: set "
            f"TF_NUM_INTRAOP_THREADS={cores} in the environment"
        )
    return found


@functools.cache
def warn_once() -> None:
    """Warns of what slows training down here, the first time that it is called.

    To silence it: `warnings.simplefilter("ignore", keras_resnet.runtime.SlowKernels)`.
    """
    for remedy in remedies():
        warnings.warn(remedy, SlowKernels, stacklevel=3)


def processor() -> tuple[str, list[str]]:
    """The processor's name, and its instruction sets that matter here."""
    name, flags = platform.processor() or platform.machine(), ""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [line.partition(":") for line in info.read_text("utf-8").splitlines()]
        facts = {key.strip(): value.strip() for key, _, value in reversed(lines)}
        name = facts.get("model name", name)
        flags = facts.get("flags") or facts.get("Features", "")
    return name, [flag for flag in INSTRUCTION_SETS if flag in flags.split()]


def bfloat16_advice() -> str | None:
    """What to change where the processor multiplies in bfloat16, and no GPU trains.

    oneDNN computes in it on other processors too, slower than in float32.
    """
    sets = [name for name in processor()[1] if name in BFLOAT16_SETS]
    if not sets or has_gpu() or not onednn_is_on():
        return None
    return f"--precision mixed_bfloat16 is faster on this processor ({sets[0]})"


def peak_memory() -> int:
    """The most bytes of resident memory that this process had."""
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def limit_memory(most: int | None) -> None:
    """Lets this process take so many bytes, and leave no core file; not on Windows."""
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    allowed = resource.getrlimit(resource.RLIMIT_AS)[1]
    if most is not None and (allowed == resource.RLIM_INFINITY or most < allowed):
        resource.setrlimit(resource.RLIMIT_AS, (most, allowed))


def detached() -> dict[str, Any]:
    """Arguments of `Popen` for a process that this terminal's Ctrl-C does not reach."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def own_module(name: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a module of this package as a program.

    It finds the package where it was found here, and nothing in the working folder.
    """
    before = os.environ.get("PYTHONPATH")
    paths = [str(Path(__file__).parents[1]), *([before] if before else [])]
    command = [sys.executable, "-P", "-m", name]
    return command, os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


_PR_SET_PDEATHSIG = 1  # of Linux' prctl


def ended_with_parent() -> dict[str, Any]:
    """Arguments of `Popen` for a process that gets SIGTERM once this one is gone.

    By a kill too; on Linux alone, elsewhere it lives on.
    """
    if sys.platform != "linux":
        return {}
    libc = ctypes.CDLL(None)
    return {"preexec_fn": lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)}


def versions() -> dict[str, str | None]:
    """Of Python and of the packages that matter; None for what is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def share_of_machine(rank: int, processes: int) -> dict[str, str]:
    """Environment of one of several processes on a machine: its GPUs and threads."""
    threads = str(max(1, usable_cores() // processes))
    return {
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(processes),
        "TF_NUM_INTRAOP_THREADS": threads,
        "TF_NUM_INTEROP_THREADS": threads,
    }


def describe() -> dict[str, Any]:
    """Devices, processor, kernels and threads of this process."""
    import keras
    import tensorflow as tf

    name, sets = processor()
    return {
        "devices": [device.name for device in tf.config.list_physical_devices()],
        "processor": name,
        "instruction_sets": sets,
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "threads": _threads(),
        "onednn": onednn_is_on(),
        "precision": keras.mixed_precision.global_policy().name,
        "backend": keras.backend.backend(),
    }
