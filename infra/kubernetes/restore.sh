#!/usr/bin/env bash
# Replace MLflow's database of overlay `local` by a copy that backup.sh made, and load its artifacts into the bucket:
#   infra/kubernetes/restore.sh FOLDER
# Runs and models that are newer than the copy are gone afterwards. MLflow is stopped meanwhile; when it starts, its first
# container migrates the database if the image is newer, and sets the administrator's password to the Secret's.
set -euo pipefail
folder=${1:?usage: restore.sh FOLDER that backup.sh made}
inside() { local workload=$1; shift; kubectl exec --stdin "$workload" --namespace=metseg "--container=${workload#*/}" -- "$@"; }
(cd "$folder" && sha256sum --check --quiet SHA256SUMS)
kubectl scale deployment/mlflow --namespace=metseg --replicas=0
kubectl wait pod --namespace=metseg --selector=app.kubernetes.io/name=mlflow --for=delete --timeout=120s
# An emptied schema, not --clean: objects that the copy does not know would stay and stop the next migration.
inside statefulset/postgres psql --quiet --username=mlflow --dbname=mlflow --set=ON_ERROR_STOP=1 <<< 'DROP SCHEMA public CASCADE; CREATE SCHEMA public;'
inside statefulset/postgres pg_restore --username=mlflow --dbname=mlflow --no-owner --exit-on-error --single-transaction < "$folder/mlflow.dump"
kubectl scale deployment/mlflow --namespace=metseg --replicas=1
kubectl rollout status deployment/mlflow --namespace=metseg --timeout=600s
inside deployment/mlflow python /etc/metseg/bucket.py load < "$folder/artifacts.tar"
echo "restored from $folder"
