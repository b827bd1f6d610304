"""The HTTP gateway: files in, masks out, for callers that speak no gRPC."""
