#!/usr/bin/env bash
# Print the secrets that the manifests name, with passwords made anew, for `kubectl apply -f -`. Nothing of it is kept:
#   infra/kubernetes/secrets.sh [NAMESPACE OF RUNS] | kubectl apply -f -
# For a database or storage elsewhere: DATABASE_URI, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY from the environment.
set -euo pipefail
runs=${1:-kubeflow}
random() { openssl rand -hex 24; }
database=$(random) flask=$(random) admin=$(random) keys=$(random)
uri=${DATABASE_URI:-postgresql://mlflow:$database@postgres:5432/mlflow}
# SQLAlchemy would take another driver than the one that the image holds.
uri=${uri/#postgresql:/postgresql+psycopg2:}
access=${AWS_ACCESS_KEY_ID:-metseg} secret=${AWS_SECRET_ACCESS_KEY:-$(random)}

secret() { # NAMESPACE NAME, then KEY VALUE ...
  printf -- '---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\n  namespace: %s\ntype: Opaque\nstringData:\n' "$2" "$1"
  shift 2
  while (($#)); do
    printf '  %s: |-\n' "$1"
    sed 's/^/    /' <<<"$2"
    shift 2
  done
}

for namespace in metseg "$runs"; do
  secret "$namespace" metseg-mlflow-client username admin password "$admin"
  secret "$namespace" metseg-storage access-key-id "$access" secret-access-key "$secret"
done
secret metseg metseg-database password "$database"
secret metseg metseg-gateway api-keys "$keys"
secret metseg metseg-mlflow-server backend-store-uri "$uri" flask-secret-key "$flask" basic_auth.ini "[mlflow]
default_permission = READ
database_uri = $uri
authorization_function = mlflow.server.auth:authenticate_request_basic_auth"
secret metseg metseg-viewer-login auth "admin:$(openssl passwd -apr1 "$admin")"
