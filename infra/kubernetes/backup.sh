#!/usr/bin/env bash
# Copy MLflow's database and bucket of overlay `local` into a new folder:
#   infra/kubernetes/backup.sh FOLDER
# The database first: artifacts are written once, so the bucket that is copied later holds all that the database names.
set -euo pipefail
folder=${1:?usage: backup.sh FOLDER, which is made}
inside() { local workload=$1; shift; kubectl exec --stdin "$workload" --namespace=metseg "--container=${workload#*/}" -- "$@" < /dev/null; }
umask 077
mkdir "$folder"
inside statefulset/postgres pg_dump --username=mlflow --format=custom mlflow > "$folder/mlflow.dump"
inside deployment/mlflow python /etc/metseg/bucket.py save > "$folder/artifacts.tar"
(cd "$folder" && sha256sum mlflow.dump artifacts.tar > SHA256SUMS)
echo "$folder: $(du -sh "$folder" | cut -f1)"
