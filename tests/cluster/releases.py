"""Releases of the chart, by a real Helm client, and what controllers make of them."""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from cluster.api import UNFOUNDED, Api, Manifest
from cluster.control_plane import ControlPlane
from helm.chart import CHART, Values

_HELM_SECONDS = 60.0


class HelmError(Exception):
    """Helm ended with an error; the text is what it said."""


@dataclass(frozen=True)
class Helm:
    """A client that works in one namespace."""

    program: Path
    cluster: ControlPlane
    namespace: str
    folder: Path
    """For its caches, and for files of values."""
    remarks: list[str] = field(default_factory=list)
    """What it wrote to stderr; warnings of the API server are among it."""

    def install(self, release: str, values: Values) -> "Release":
        self.run("install", release, str(CHART), values=values)
        return Release(self, release)

    def upgrade(self, release: str, values: Values) -> None:
        self.run("upgrade", release, str(CHART), values=values)

    def run(self, *arguments: str, values: Values | None = None) -> str:
        """What it wrote to stdout. Raises HelmError."""
        with self.start(*arguments, values=values) as process:
            return self.end(process)

    def start(self, *arguments: str, values: Values | None = None) -> "subprocess.Popen[str]":
        """For what has to be done while it runs."""
        if values is not None:
            path = self.folder / f"{uuid4().hex}.json"
            path.write_text(json.dumps(values), encoding="utf-8")
            arguments = (*arguments, "--values", str(path))
        folders = {f"HELM_{name}_HOME": str(self.folder / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
        return subprocess.Popen(
            [self.program, *arguments, "--namespace", self.namespace, "--kubeconfig", self.cluster.kubeconfig],
            env=os.environ | folders,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, process: "subprocess.Popen[str]") -> str:
        """Wait for it; what it wrote to stdout. Raises HelmError."""
        output, remarks = process.communicate(timeout=_HELM_SECONDS)
        if process.returncode:
            raise HelmError(f"{process.args!r}: {remarks}{output}")
        self.remarks.extend(remark for remark in remarks.splitlines() if UNFOUNDED not in remark)
        return output


@dataclass(frozen=True)
class Release:
    """What is there of a release."""

    helm: Helm
    name: str

    @property
    def api(self) -> Api:
        return self.helm.cluster.api

    @property
    def full_name(self) -> str:
        return f"{self.name}-{CHART.name}"

    @property
    def deployments(self) -> str:
        """Where they are; so below."""
        return f"/apis/apps/v1/namespaces/{self.helm.namespace}/deployments"

    @property
    def deployment(self) -> Manifest:
        return self.api.get(f"{self.deployments}/{self.full_name}")

    @property
    def pods(self) -> str:
        return f"/api/v1/namespaces/{self.helm.namespace}/pods"

    @property
    def endpoint_slices(self) -> str:
        return f"/apis/discovery.k8s.io/v1/namespaces/{self.helm.namespace}/endpointslices"

    @property
    def revisions(self) -> str:
        """The Deployment's replica sets."""
        return f"/apis/apps/v1/namespaces/{self.helm.namespace}/replicasets"

    def rolled_out(self) -> Manifest:
        """Wait until the Deployment's newest template has the pods that it is to have at once; the replica set that has them.

        Nobody makes pods ready here, so of an update it is those by which it may surge.
        """
        number = self.api.wait(self.deployments, _observed_revision)

        def with_pods(found: Sequence[Manifest]) -> Manifest | None:
            (newest,) = [each for each in found if each["metadata"]["annotations"][_REVISION] == number]
            wanted, made = newest["spec"]["replicas"], newest["status"]["replicas"]
            return newest if wanted and made == wanted else None

        return self.api.wait(self.revisions, with_pods)


_REVISION = "deployment.kubernetes.io/revision"


def _observed_revision(deployments: Sequence[Manifest]) -> str | None:
    (deployment,) = deployments
    if deployment["status"].get("observedGeneration") != deployment["metadata"]["generation"]:
        return None
    number: str = deployment["metadata"]["annotations"][_REVISION]
    return number
