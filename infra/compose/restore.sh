#!/usr/bin/env bash
# Replace MLflow's database of the compose file by a copy that backup.sh made, and load its artifacts into the bucket:
#   infra/compose/restore.sh FOLDER
# Runs and models that are newer than the copy are gone afterwards. MLflow is stopped meanwhile; when it starts, it migrates
# the database if the image is newer, and sets the administrator's password to that of .env.
set -euo pipefail
folder=${1:?usage: restore.sh FOLDER that backup.sh made}
read -ra compose <<< "${METSEG_COMPOSE:-docker compose -f $(dirname "$0")/compose.yaml}"
(cd "$folder" && sha256sum --check --quiet SHA256SUMS)
"${compose[@]}" stop mlflow
# An emptied schema, not --clean: objects that the copy does not know would stay and stop the next migration.
"${compose[@]}" exec -T postgres psql --quiet --username=mlflow --dbname=mlflow --set=ON_ERROR_STOP=1 <<< 'DROP SCHEMA public CASCADE; CREATE SCHEMA public;'
"${compose[@]}" exec -T postgres pg_restore --username=mlflow --dbname=mlflow --no-owner --exit-on-error --single-transaction < "$folder/mlflow.dump"
"${compose[@]}" start mlflow
for _ in {1..120}; do
  "${compose[@]}" exec -T mlflow python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:5000/health', timeout=5)" 2> /dev/null < /dev/null && break
  sleep 2
done
"${compose[@]}" exec -T mlflow python /etc/metseg/bucket.py load < "$folder/artifacts.tar"
echo "restored from $folder"
