#!/usr/bin/env bash
# Copy MLflow's database and bucket of the compose file into a new folder:
#   infra/compose/backup.sh FOLDER
# METSEG_COMPOSE names the command if it is not that of docs/containers.md. The database first: artifacts are written
# once, so the bucket that is copied later holds all that the database names.
set -euo pipefail
folder=${1:?usage: backup.sh FOLDER, which is made}
read -ra compose <<< "${METSEG_COMPOSE:-docker compose -f $(dirname "$0")/compose.yaml}"
inside() { "${compose[@]}" exec -T "$@" < /dev/null; }
umask 077
mkdir "$folder"
inside postgres pg_dump --username=mlflow --format=custom mlflow > "$folder/mlflow.dump"
inside mlflow python /etc/metseg/bucket.py save > "$folder/artifacts.tar"
(cd "$folder" && sha256sum mlflow.dump artifacts.tar > SHA256SUMS)
echo "$folder: $(du -sh "$folder" | cut -f1)"
