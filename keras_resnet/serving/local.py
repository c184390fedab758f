"""A server for one's own machine, which speaks TF Serving's REST and gRPC.

It is for trying out: it listens on loopback alone, loads what it is asked for through
TensorFlow's C API, and never batches, polls or authenticates. TF Serving does.
"""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import uvicorn

from keras_resnet.errors import ExportError
from keras_resnet.serving import rest, rpc
from keras_resnet.serving.servables import Models
from keras_resnet.serving.server import HOST

_MESSAGE = 2**28  # bytes of a gRPC message


class Server:
    """A model behind two ports of this machine.

    Args:
        path: as `Models` takes it.
        rest_port: for HTTP; 0 takes a free one.
        grpc_port: for gRPC; 0 takes a free one.

    Raises:
        ExportError: no SavedModel is there, or a port is taken.
    """

    def __init__(self, path: Path, rest_port: int, grpc_port: int) -> None:
        self.models = Models(path)
        try:
            self._socket = socket.create_server((HOST, rest_port))
        except OSError as error:
            raise ExportError(
                f"rest-port: {rest_port} can't be listened on: {error.strerror}"
            ) from None
        self._rpc = grpc.server(
            ThreadPoolExecutor(4),
            options=[
                ("grpc.max_receive_message_length", _MESSAGE),
                ("grpc.so_reuseport", 0),
            ],
        )
        rpc.add_services(self.models, self._rpc)
        try:
            self._grpc_port = self._rpc.add_insecure_port(f"{HOST}:{grpc_port}")
        except RuntimeError:
            self._socket.close()
            raise ExportError(
                f"grpc-port: {grpc_port} can't be listened on: it is taken"
            ) from None

    @property
    def urls(self) -> dict[str, str]:
        """Where it is asked, by "rest" and "grpc", as `Client` takes it."""
        rest_port = self._socket.getsockname()[1]
        return {
            "rest": f"http://{HOST}:{rest_port}/{self.models.name}",
            "grpc": f"grpc://{HOST}:{self._grpc_port}/{self.models.name}",
        }

    def run(self) -> None:
        """Serves until it is interrupted."""
        self._rpc.start()
        config = uvicorn.Config(rest.app_of(self.models), log_level="warning")
        try:
            uvicorn.Server(config).run([self._socket])
        finally:
            self._rpc.stop(grace=None)
            self._socket.close()
