"""A server of exported models: TF Serving where it is there, else our own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.parse

from conftest import ROOT

BINARY = shutil.which("tensorflow_model_server")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def served(path):
    """The URLs, gRPC and REST, of a process that serves a model's folder."""
    if BINARY:
        ports = free_port(), free_port()
        command = [
            BINARY, f"--port={ports[0]}", f"--rest_api_port={ports[1]}",
            f"--model_name={path.name}", f"--model_base_path={path.resolve()}",
        ]  # fmt: skip
    else:
        command = [
            sys.executable, "-m", "keras_resnet.cli", "serve", str(path),
            "--rest-port=0", "--grpc-port=0", "--json",
        ]  # fmt: skip
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        if not BINARY:
            urls = json.loads(process.stdout.readline())
            ports = [urllib.parse.urlsplit(urls[k]).port for k in ("grpc", "rest")]
        process.stdout.close()
        yield tuple(
            f"{scheme}://127.0.0.1:{port}/{path.name}"
            for scheme, port in zip(("grpc", "http"), ports, strict=True)
        )
    finally:
        process.terminate()
        process.wait()
