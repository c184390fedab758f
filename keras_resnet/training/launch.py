"""Starts a training as several processes on this machine, without TF_CONFIG by hand.

    python -m keras_resnet.training.launch 2 \
        keras-resnet train --strategy multiworker --folder runs/two

Each process gets TF_CONFIG, LOCAL_RANK and LOCAL_WORLD_SIZE, its share of the cores,
and its share of the GPUs. The first one's output is shown, and the errors of all.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack

from keras_resnet.runtime import share_of_machine

GRACE = 60.0  # seconds for the others to end, once one has failed


def environments(processes: int) -> list[dict[str, str]]:
    """What each process has in its environment besides this one's."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(processes)]
        for own in sockets:
            own.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{own.getsockname()[1]}" for own in sockets]
    return [
        {
            "TF_CONFIG": json.dumps(
                {
                    "cluster": {"worker": addresses},
                    "task": {"type": "worker", "index": rank},
                }
            ),
            **share_of_machine(rank, processes),
            # TensorFlow would print a page on a lost worker, where we print a line.
            "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
        }
        for rank in range(processes)
    ]


def launch(processes: int, command: Sequence[str]) -> int:
    """Runs a command as several processes; the exit code of the first that failed.

    Once one has failed, or was interrupted, the others have `GRACE` seconds to end by
    themselves.
    """
    running: list[subprocess.Popen[bytes]] = []
    try:
        for rank, own in enumerate(environments(processes)):
            output = None if rank == 0 else subprocess.DEVNULL
            running.append(
                subprocess.Popen(command, env=os.environ | own, stdout=output)
            )
        return _wait(running)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    finally:
        for process in running:
            process.kill()
            process.wait()


def _wait(running: Sequence[subprocess.Popen[bytes]]) -> int:
    failed, deadline = 0, float("inf")
    while any(process.poll() is None for process in running):
        try:
            time.sleep(0.1)
        except KeyboardInterrupt:  # all of them got it
            failed, deadline = 130, time.monotonic() + GRACE
        if time.monotonic() > deadline:
            break
        if not failed and (failed := _failed(running)):
            deadline = time.monotonic() + GRACE
    return failed or _failed(running)


def _failed(running: Sequence[subprocess.Popen[bytes]]) -> int:
    """The exit code of one that failed, as a shell gives it; 0 if none did."""
    codes = [process.returncode for process in running if process.returncode]
    code = codes[0] if codes else 0
    return 128 - code if code < 0 else code


def main() -> int:
    """The command line: how many, and of what."""
    if len(sys.argv) < 3 or not sys.argv[1].isdigit() or int(sys.argv[1]) < 1:
        print(
            "usage: python -m keras_resnet.training.launch PROCESSES COMMAND...",
            file=sys.stderr,
        )
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return launch(int(sys.argv[1]), sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
