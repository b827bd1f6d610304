"""The embedded model server: TF Serving's gRPC and REST APIs in this process.

Callers see the codes of TF Serving, and over gRPC also its texts. It differs if TF Serving would wait without limit or
exit: it also starts without a version that can be loaded (TF Serving blocks, then exits), and a reload with a new model
without such a version fails with UNKNOWN at once. There is no batching.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from metseg.errors import ServingError, UsageError
from metseg.malloc import keep_freed_memory
from metseg.serving.http_hosts import is_loopback
from metseg.serving.model_config import read_message
from metseg.serving.server.core import ServerCore
from metseg.serving.server.flags import ServerOptions
from metseg.serving.server.model_service import ModelService
from metseg.serving.server.prediction_service import PredictionService
from metseg.serving.server.status import UnknownMethodHandler
from metseg.tensorflow_protos import MonitoringConfig, SSLConfig, model_service_pb2_grpc

if TYPE_CHECKING:
    from metseg.serving.server.rest import RestServer

LOGGER = logging.getLogger(__name__)

OPEN_TO_OTHERS = (
    "other machines reach the server, and it has no login: every caller can use its models and, by gRPC, load others, "
    "whose code then runs here. Let only known clients reach the ports, require client certificates for gRPC "
    "by --ssl_config_file, or listen on 127.0.0.1"
)
PROMETHEUS_PATH = "/monitoring/prometheus/metrics"

_CHANNEL_ARGUMENTS: dict[str, int | str] = {
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
    # Otherwise two servers share one port without an error, and each gets some of the requests.
    "grpc.so_reuseport": 0,
}
_CANCELLING_SECONDS = 5.0
"""Time limit of gRPC to cancel calls after the grace period."""
_HEALTH_SERVICES = ("", "ModelService", "PredictionService")


class ModelServer:
    """A model server in this process.

    Attributes:
        port: of the gRPC API, also if the system chose it; 0 before `start`.

    Example:
        with ModelServer(ServerOptions(port=0, model_base_path="models/brain-mets-segmentation")) as server:
            client = SegmentationClient(f"127.0.0.1:{server.port}")
    """

    def __init__(self, options: ServerOptions) -> None:
        self._options = options
        self._core = ServerCore(options)
        self._metrics_path = _metrics_path(options)
        self._pool = ThreadPoolExecutor(options.grpc_max_threads, thread_name_prefix="grpc")
        self._server = grpc.server(self._pool, options=_channel_arguments(options))
        self._health: health.HealthServicer | None = None
        self._rest: RestServer | None = None
        self.port = 0
        self._stopped = False

    def start(self) -> None:
        """Bind the ports, load the versions, then serve; returns when requests are served.

        Raises:
            ServingError: if a port is in use, or the configuration is invalid.
        """
        try:
            self.port = self._bind()
            if self._options.rest_api_port:
                from metseg.serving.server.rest import RestServer

                self._rest = RestServer(self._options, self._core, self._metrics_path)
            self._register()
            self._core.start()
            self._server.start()
            if self._rest is not None:
                self._rest.start()
        except BaseException:
            self.stop(grace=0)
            raise
        if not is_loopback(self._options.host):
            LOGGER.warning("--host %s: %s", self._options.host, OPEN_TO_OTHERS)
        LOGGER.info("serving gRPC at %s:%d", self._options.host, self.port)
        if self._rest is not None:
            LOGGER.info("serving REST at %s:%d", self._options.host, self._options.rest_api_port)

    def stop(self, grace: float | None = None) -> None:
        """Take no more calls; those in flight get `grace` seconds (default: `shutdown_grace_seconds`) to finish."""
        if self._stopped:
            return
        self._stopped = True
        if self._health is not None:
            self._health.enter_graceful_shutdown()
        seconds = self._options.shutdown_grace_seconds if grace is None else grace
        deadline = time.monotonic() + seconds
        stopped = self._server.stop(seconds)
        if self._rest is not None:
            self._rest.stop(seconds)
        stopped.wait(max(0.0, deadline - time.monotonic()) + _CANCELLING_SECONDS)
        self._core.stop()
        self._pool.shutdown(wait=False)
        LOGGER.info("stopped serving at %s:%d", self._options.host, self.port)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _register(self) -> None:
        prediction = PredictionService(
            self._core, as_tensor_content=self._options.enable_serialization_as_tensor_content
        )
        self._server.add_generic_rpc_handlers((prediction.handler(),))
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(self._core), self._server)
        if self._options.enable_grpc_healthcheck_service:
            self._health = health.HealthServicer()
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
            for service in _HEALTH_SERVICES:
                self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        self._server.add_generic_rpc_handlers((UnknownMethodHandler(),))

    def _bind(self) -> int:
        credentials = _server_credentials(self._options)
        if self._options.grpc_socket_path:
            self._add_port(f"unix:{self._options.grpc_socket_path}", credentials)
        return self._add_port(f"{self._options.host}:{self._options.port}", credentials)

    def _add_port(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        try:
            if credentials is None:
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise ServingError(
                f"port {self._options.port} cannot be listened on ({address}): most likely another server uses it; "
                "stop that one, or choose another port with --port (0 picks a free one) or --grpc_socket_path"
            ) from error


def _channel_arguments(options: ServerOptions) -> list[tuple[str, Any]]:
    """Return our arguments and those of `--grpc_channel_arguments` (integers as numbers); raises UsageError."""
    arguments = dict(_CHANNEL_ARGUMENTS)
    for argument in filter(None, options.grpc_channel_arguments.split(",")):
        key, separator, value = argument.partition("=")
        if not separator:
            raise UsageError(f"--grpc_channel_arguments={options.grpc_channel_arguments}: expected KEY=VALUE,…")
        arguments[key] = int(value) if value.removeprefix("-").isdigit() else value
    return list(arguments.items())


def _server_credentials(options: ServerOptions) -> grpc.ServerCredentials | None:
    """Return the TLS credentials of `--ssl_config_file`; raises UsageError naming the file."""
    if not options.ssl_config_file:
        return None
    config = read_message(Path(options.ssl_config_file), SSLConfig())
    if not config.server_key or not config.server_cert:
        raise UsageError(f"{options.ssl_config_file}: expected server_key and server_cert, both as PEM text")
    if config.client_verify and not config.custom_ca:
        raise UsageError(f"{options.ssl_config_file}: client_verify needs custom_ca, which signed the clients")
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        root_certificates=config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )


def _metrics_path(options: ServerOptions) -> str | None:
    """Return the path of the metrics, None if off; raises UsageError naming the file."""
    if not options.monitoring_config_file:
        return None
    config = read_message(Path(options.monitoring_config_file), MonitoringConfig()).prometheus_config
    if not config.enable:
        return None
    if not options.rest_api_port:
        LOGGER.warning("%s: metrics are served on the REST port, which is off", options.monitoring_config_file)
    return config.path or PROMETHEUS_PATH


def serve(options: ServerOptions) -> None:
    """Serve until SIGTERM or SIGINT.

    Calls in flight then finish within `shutdown_grace_seconds`; a second signal ends the process at once.

    Raises:
        ServingError: if the port is in use, or the configuration is invalid.
    """
    keep_freed_memory()
    stopping = threading.Event()
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def stop(number: int, frame: FrameType | None) -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)
        stopping.set()

    for number in previous:
        signal.signal(number, stop)
    server = ModelServer(options)
    server.start()
    stopping.wait()
    LOGGER.info("stopping; calls in flight have %g s to finish", options.shutdown_grace_seconds)
    server.stop()
