"""The check step: `step.py` is the plain function, `component.py` the Kubeflow component around it."""
