"""`metseg submit`: the pipeline as a version on Kubeflow, a run or schedule of it, and the run's verdict."""
