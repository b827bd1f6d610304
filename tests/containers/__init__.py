"""The pipeline and the services in containers, on the Docker of this machine: `make test-containers`."""
