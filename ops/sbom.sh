#!/usr/bin/env bash
# Writes the bill of materials of the image's Python side to dist/ (CycloneDX, JSON), and prints its name: the locked
# packages, installed as the Dockerfile installs them, with their licences and who needs whom. The argument is the
# cyclonedx-py to use; it runs where `make demo` works.
set -euo pipefail
cd "$(dirname "$0")/.."

cyclonedx=$1
pip=(.venv/bin/python -m pip --disable-pip-version-check --quiet)
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' bridge/__init__.py)
bom=dist/rocketmq-bridge-$version.cdx.json
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

.venv/bin/python -m venv --without-pip "$folder/image"
"${pip[@]}" wheel --no-deps --require-hashes --no-build-isolation --wheel-dir "$folder" -r locks/run.txt
"${pip[@]}" wheel --no-deps --no-build-isolation --wheel-dir "$folder" .
"${pip[@]}" --python "$folder/image/bin/python" install --no-deps --no-index "$folder"/*.whl
find "$folder/image" -name direct_url.json -delete  # they name this folder, which nobody else has
sed "s/^dynamic = .*/version = \"$version\"/" pyproject.toml > "$folder/pyproject.toml"

mkdir -p dist
"$cyclonedx" environment --pyproject "$folder/pyproject.toml" --output-reproducible --output-file "$bom" "$folder/image/bin/python"
echo "$bom"
