"""The model server, its clients, and what keeps it at the state of the registry."""

from metseg.defaults import MODEL_NAME, SERVER_PORT

DEFAULT_MODEL_NAME = MODEL_NAME
DEFAULT_PORT = SERVER_PORT
"""Of the gRPC API, as in TF Serving."""
