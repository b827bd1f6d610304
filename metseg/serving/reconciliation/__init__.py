"""Reconciliation: serving follows the registry.

A version under an alias is published, loaded, verified, then labelled.

The desired state are the aliases of the MLflow registry: `champion` decides the label `stable`, `challenger` the label
`canary`, and `previous` stays loaded. The actual state are the folder that is shared with the model server, and the
server itself, which is reached by TF Serving's gRPC API alone. The configuration file on the shared folder holds
verified versions only. A restarted server starts with them, and a restarted reconciler needs no other memory.
"""
