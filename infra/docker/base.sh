#!/usr/bin/env bash
# Make a base image of Debian's packages, for a machine without access to an image registry:
#   infra/docker/base.sh [NAME] && make images BASE_IMAGE=NAME
# It needs root and debootstrap, and trusts the certificates that this machine trusts.
set -euo pipefail
name=${1:-metseg-base:bookworm}
command -v debootstrap > /dev/null || { echo "debootstrap is not installed: apt-get install debootstrap" >&2; exit 2; }
[[ $(id -u) == 0 ]] || { echo "debootstrap needs root: sudo $0 $*" >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$folder" ${DEBIAN_MIRROR:-} > "$folder.log" 2>&1 ||
  { tail -20 "$folder.log" >&2; exit 1; }
rm -rf "$folder.log" "$folder"/var/cache/apt/* "$folder"/var/lib/apt/lists/* "$folder"/var/log/* "$folder"/usr/share/{doc,info,locale,man}/*
cp /etc/ssl/certs/ca-certificates.crt "$folder/etc/ssl/certs/ca-certificates.crt"
tar -C "$folder" -c . | docker import --change 'CMD ["python3"]' - "$name"
