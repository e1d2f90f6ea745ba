#!/usr/bin/env bash
# Builds the image with docker, podman or buildah, whichever works here, and prints its name. BUILDER chooses one, IMAGE is
# the name without a tag; arguments go to the builder: ops/image.sh --build-arg BASE=registry.example/python:3.13
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' bridge/__init__.py)
revision=$(git describe --always --dirty --abbrev=40 --exclude='*' 2> /dev/null || echo unknown)
name=${IMAGE:-rocketmq-bridge}:$version

works() {
    case $1 in
        docker) docker info ;;  # its client may be there without its daemon
        *) command -v "$1" ;;
    esac > /dev/null 2>&1
}

if [ -z "${BUILDER:-}" ]; then
    for BUILDER in docker podman buildah none; do
        if works "$BUILDER"; then break; fi
    done
fi
case $BUILDER in
    docker) build=(docker build) ;;
    podman | buildah) build=("$BUILDER" build --format docker) ;;  # their own format has no HEALTHCHECK
    *)
        echo "one of docker (with its daemon), podman and buildah is needed to build the image" >&2
        exit 1
        ;;
esac

"${build[@]}" --build-arg "VERSION=$version" --build-arg "REVISION=$revision" --tag "$name" "$@" . >&2
echo "$name"
