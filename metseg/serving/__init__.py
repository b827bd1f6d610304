"""The model server, its clients, their reconciliation with the registry, the gateway and the viewer."""
