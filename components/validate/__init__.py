"""The validate step: `step.py` is the plain function, `component.py` its Kubeflow component."""
