"""The embedded model server: TF Serving's gRPC API in this process, for one machine without the TF Serving image.

Callers meet the codes and texts of TF Serving. It differs where TF Serving waits without end or gives up: it starts
and answers also while no version can be loaded (TF Serving blocks, then exits), and a reload with a new model that has
no version to load is answered with UNKNOWN at once. It runs no warm-up requests, batches nothing and has no REST port.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from metseg.errors import ServingError
from metseg.serving.configuration import ServerOptions
from metseg.serving.core import ServerCore
from metseg.serving.model_service import ModelService
from metseg.serving.prediction_service import PredictionService
from metseg.serving.protos import model_service_pb2_grpc, prediction_service_pb2_grpc

__all__ = ["ModelServer", "ServerOptions", "serve"]

LOGGER = logging.getLogger(__name__)

_CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Otherwise two servers share one port in silence, and each gets some of the requests.
    ("grpc.so_reuseport", 0),
]
_HEALTH_SERVICES = ("", "ModelService", "PredictionService")


class ModelServer:
    """A model server in this process.

    Example:
        with ModelServer(ServerOptions(port=0, model_base_path="models/brain-mets-segmentation")) as server:
            client = SegmentationClient(f"127.0.0.1:{server.port}")
    """

    def __init__(self, options: ServerOptions) -> None:
        self._options = options
        self._core = ServerCore(options)
        self._pool = ThreadPoolExecutor(options.grpc_max_threads, thread_name_prefix="grpc")
        self._server = grpc.server(self._pool, options=_CHANNEL_OPTIONS)
        self._health: health.HealthServicer | None = None
        self._port = 0
        self._ended = False

    @property
    def port(self) -> int:
        """The port it listens on, also when the options left the choice to the system; 0 before `start`."""
        return self._port

    def start(self) -> None:
        """Take the port, load what the base paths hold, then answer; returns when requests are answered.

        Raises:
            ServingError: when the port is taken, or the configuration is refused.
        """
        try:
            self._port = self._bind()
            prediction = PredictionService(
                self._core, as_tensor_content=self._options.enable_serialization_as_tensor_content
            )
            prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(prediction, self._server)
            model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(self._core), self._server)
            if self._options.enable_grpc_healthcheck_service:
                self._health = health.HealthServicer()
                health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
                for service in _HEALTH_SERVICES:
                    self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
            self._core.start()
            self._server.start()
        except BaseException:
            self.stop(grace=0)
            raise
        LOGGER.info("serving gRPC at %s:%d", self._options.host, self._port)

    def stop(self, grace: float | None = None) -> None:
        """Take no more calls; those in flight get `grace` seconds, by default `shutdown_grace_seconds`, to finish."""
        if self._ended:
            return
        self._ended = True
        if self._health is not None:
            self._health.enter_graceful_shutdown()
        self._server.stop(self._options.shutdown_grace_seconds if grace is None else grace).wait()
        self._core.stop()
        self._pool.shutdown(wait=False)
        LOGGER.info("stopped serving at %s:%d", self._options.host, self._port)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _bind(self) -> int:
        address = f"{self._options.host}:{self._options.port}"
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise self._port_taken(address) from error
        if port == 0:
            raise self._port_taken(address)
        return port

    def _port_taken(self, address: str) -> ServingError:
        return ServingError(
            f"port {self._options.port} cannot be listened on ({address}): most likely another server has it; "
            "stop that one, or choose another port with --port (0 picks a free one)"
        )


def serve(options: ServerOptions) -> None:
    """Serve until SIGTERM or SIGINT.

    Calls in flight then finish within `shutdown_grace_seconds`; a second signal ends at once.

    Raises:
        ServingError: when the port is taken, or the configuration is refused.
    """
    stopping = threading.Event()
    with _on_signal(stopping):
        server = ModelServer(options)
        server.start()
        stopping.wait()
        LOGGER.info("stopping; calls in flight have %g s to finish", options.shutdown_grace_seconds)
        server.stop()


@contextmanager
def _on_signal(stopping: threading.Event) -> Iterator[None]:
    """Set the event at the first SIGTERM or SIGINT; the second one finds the handlers that were there before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        restore()
        stopping.set()

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()
