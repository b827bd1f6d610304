"""HTTP gateway: upload images, download masks; for clients without gRPC."""
