#!/usr/bin/env bash
# Make the secrets that the manifests name. Existing values stay; gaps get new passwords:
#   infra/kubernetes/secrets.sh kubeflow | kubectl apply -f -
#   DATABASE_URI=… infra/kubernetes/secrets.sh --no-storage-keys kubeflow | kubectl apply -f -
#   infra/kubernetes/secrets.sh --rotate mlflow
# docs/cluster.md explains it; --help lists the options.
set -euo pipefail
exec "${PYTHON:-python3}" "$(dirname "$0")/passwords/main.py" "$@"
