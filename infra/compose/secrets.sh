#!/usr/bin/env bash
# Write infra/compose/.env (or the file that is named) from .env.example, with passwords made anew; one that is there is left alone.
set -euo pipefail
file=${1:-$(dirname "$0")/.env}
[[ ! -e $file ]] || { echo "$file is there"; exit 0; }
umask 077
while IFS= read -r line; do
  if [[ $line == *= ]]; then line+=$(openssl rand -hex 24); fi
  printf '%s\n' "$line"
done < "$(dirname "$0")/.env.example" > "$file"
echo "$file: passwords made anew"
