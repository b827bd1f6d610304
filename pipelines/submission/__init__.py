"""`metseg submit`: upload the pipeline to Kubeflow, run or schedule it, read its verdict."""
