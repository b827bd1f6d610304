"""Serving follows the registry: what an alias points at is published, loaded, examined, and only then labelled.

Desired state are the aliases of the MLflow registry: `champion` decides the label `stable`, `challenger` the label
`canary`, and `previous` stays loaded. Actual state are the folder that is shared with the model server and the server
itself, which is spoken to by TF Serving's gRPC API alone. The configuration file on the shared folder holds examined
versions only: it is both what a restarted server comes up with and all that a restarted reconciler has to know.
"""
