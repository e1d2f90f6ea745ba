"""Whether manifests are what Kubernetes, KEDA and the Prometheus operator take."""

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from kubernetes_validate import utils as kubernetes_schemas

from helm.chart import Manifest

_MODELS = Path(__file__).with_name("models")
_CACHE = Path(__file__).resolve().parents[2] / ".cache" / "kubernetes-models"
_INSTALL_TIMEOUT_SECONDS = 120
_VALIDATE_TIMEOUT_SECONDS = 60


class ModelsMissingError(Exception):
    """The schemas of custom resources can't be had on this machine; the text says what to install."""


def kubernetes_complaints(found: Sequence[Manifest], *, version: str) -> list[str]:
    """What that version of Kubernetes would say of its own resources, unknown fields included."""
    complaints = []
    for manifest in found:
        if is_custom(manifest):
            continue
        try:
            kubernetes_schemas.validate(manifest, version, strict=True)
        except kubernetes_schemas.ValidationError as problem:
            where = "/".join(map(str, problem.absolute_path))
            complaints.append(f"{manifest['kind']}, {where}: {problem.message}")
    return complaints


def is_custom(manifest: Manifest) -> bool:
    """Whether a resource isn't one of Kubernetes' own."""
    return str(manifest["apiVersion"]).startswith(("keda.sh/", "monitoring.coreos.com/", "cilium.io/"))


def custom_complaints(found: Sequence[Manifest]) -> list[list[str]]:
    """What the schemas of KEDA and of the Prometheus operator say of each, unknown fields included.

    Raises ModelsMissingError.
    """
    node = _program("node")
    finished = subprocess.run(
        [node, "validate.js"],
        cwd=_installed(),
        input=json.dumps(found),
        capture_output=True,
        text=True,
        check=True,
        timeout=_VALIDATE_TIMEOUT_SECONDS,
    )
    complaints = json.loads(finished.stdout)
    assert isinstance(complaints, list)
    return complaints


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise ModelsMissingError(f"`{name}` isn't installed: install Node.js with npm")
    return path


def _installed() -> Path:
    """The folder with the packages. It appears under its name only when it is complete; another process may be first."""
    state = hashlib.sha256(b"\0".join(path.read_bytes() for path in sorted(_MODELS.iterdir()))).hexdigest()[:16]
    folder = _CACHE / state
    if not folder.exists():
        npm = _program("npm")
        _CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_CACHE) as partial:
            shutil.copytree(_MODELS, partial, dirs_exist_ok=True)
            command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=3"]
            try:
                subprocess.run(
                    [*command, "--fetch-retry-mintimeout=1000"],
                    cwd=partial,
                    check=True,
                    timeout=_INSTALL_TIMEOUT_SECONDS,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                )
            except subprocess.SubprocessError as problem:
                raise ModelsMissingError("the schemas aren't within reach: `npm ci` must reach the npm registry") from problem
            with suppress(OSError):
                Path(partial).rename(folder)
            Path(partial).mkdir(exist_ok=True)  # for its owner to remove
    return folder
