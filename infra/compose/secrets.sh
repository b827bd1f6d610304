#!/usr/bin/env bash
# Write infra/compose/.env (or the named file) from .env.example, with a new password for each line without a value.
# A file that exists keeps its lines; variables that it lacks, or that are empty there, are added.
set -euo pipefail
file=${1:-$(dirname "$0")/.env}
umask 077
fresh=0 added=0
[[ -e $file ]] || fresh=1
touch "$file"
[[ -z $(tail -c 1 "$file") ]] || echo >> "$file"
while IFS= read -r line; do
  if [[ $line == *=* && $line != \#* ]]; then
    name=${line%%=*}
    if grep -q "^$name=." "$file"; then continue; fi
    if [[ $line == *= ]]; then line+=$(openssl rand -hex 24); fi
    sed -i "/^$name=\$/d" "$file"
    added=$((added + 1))
  elif ((!fresh)); then
    continue
  fi
  printf '%s\n' "$line" >> "$file"
done < "$(dirname "$0")/.env.example"
echo "$file: $added variables added"
