"""tensorflow.serving.ModelService: the state of versions, and a new configuration.

TF Serving: get_model_status_impl.cc, model_service_impl.cc.
"""

from __future__ import annotations

import logging
from typing import Any

import grpc

from metseg.serving.server.core import ServerCore
from metseg.serving.server.status import StatusError, abort_on_error, invalid_argument
from metseg.tensorflow_protos import get_model_status_pb2, model_management_pb2, model_service_pb2_grpc

LOGGER = logging.getLogger(__name__)

_Base: Any = model_service_pb2_grpc.ModelServiceServicer


class ModelService(_Base):  # type: ignore[misc]
    """GetModelStatus and HandleReloadConfigRequest."""

    def __init__(self, core: ServerCore) -> None:
        self._core = core

    @abort_on_error
    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Return the state of one version (by number) or of all, highest first."""
        return model_status(self._core, request)

    @abort_on_error
    def HandleReloadConfigRequest(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Serve exactly the models of the request's configuration."""
        try:
            self._core.reload(request.config)
        except StatusError as error:
            LOGGER.error("ReloadConfig failed: %s", error)
            raise
        return model_management_pb2.ReloadConfigResponse(status={"error_code": 0, "error_message": ""})


def model_status(core: ServerCore, request: Any) -> Any:
    """Return a GetModelStatusResponse; raises StatusError."""
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    response = get_model_status_pb2.GetModelStatusResponse()
    for version, entry in core.states(request.model_spec).items():
        status = response.model_version_status.add(version=version, state=int(entry.state))
        status.status.error_code = entry.error.code.value[0] if entry.error else 0
        status.status.error_message = str(entry.error or "")
    return response
