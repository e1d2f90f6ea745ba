"""A control plane on this machine: etcd, and the API server and controllers of Kubernetes. No kubelet, no scheduler: pods are
admitted and made, and stay Pending."""

import contextlib
import json
import secrets
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import trustme
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cluster import programs
from cluster.api import Api, ApiError, Manifest
from server_process import free_ports

_START_SECONDS = 60.0
_STOP_SECONDS = 20.0

# Those that act upon what the chart makes.
_CONTROLLERS = (
    "deployment-controller",
    "replicaset-controller",
    "horizontal-pod-autoscaler-controller",
    "disruption-controller",
    "endpointslice-controller",
    "serviceaccount-controller",
    "garbage-collector-controller",
)

# Their content is checked against their own schemas where the chart is rendered; here they must only exist.
_CUSTOM = {
    "ScaledObject": "scaledobjects.keda.sh/v1alpha1",
    "PodMonitor": "podmonitors.monitoring.coreos.com/v1",
    "ServiceMonitor": "servicemonitors.monitoring.coreos.com/v1",
    "PrometheusRule": "prometheusrules.monitoring.coreos.com/v1",
    "CiliumNetworkPolicy": "ciliumnetworkpolicies.cilium.io/v2",
}


@dataclass(frozen=True)
class ControlPlane:
    """One that runs. Who has the kubeconfig may do everything."""

    api: Api
    kubeconfig: Path

    def make_namespace(self) -> str:
        """A new one, which enforces the restricted Pod Security standard, and warns of what it would refuse."""
        name = f"test-{uuid4().hex[:12]}"
        labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
        self.api.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        # Without its account no pod is admitted.
        self.api.wait(f"/api/v1/namespaces/{name}/serviceaccounts", lambda accounts: accounts or None)
        return name


@contextlib.contextmanager
def running_control_plane(folder: Path) -> Iterator[ControlPlane]:
    """One that keeps everything in a folder. Raises ProgramMissingError."""
    etcd, kube = programs.etcd(), programs.built("kube")
    etcd_port, port = free_ports(2)
    token = secrets.token_hex()
    _write_credentials(folder, token)
    api = Api(port, folder / "ca.pem", token)
    kubeconfig = folder / "kubeconfig"
    kubeconfig.touch(mode=0o600)  # Helm warns of one that others may read
    kubeconfig.write_text(json.dumps(_kubeconfig(api)), encoding="utf-8")
    with contextlib.ExitStack() as stack:
        stack.enter_context(_running(folder, "etcd", [etcd, *_etcd_flags(folder, etcd_port)]))
        server = stack.enter_context(
            _running(folder, "apiserver", [kube, "apiserver", *_server_flags(folder, port, etcd_port)])
        )
        _await_ready(api, server, folder / "apiserver.log")
        flags = _controller_flags(folder, kubeconfig)
        stack.enter_context(_running(folder, "controllers", [kube, "controller-manager", *flags]))
        _define_custom_resources(api)
        yield ControlPlane(api, kubeconfig)


def _write_credentials(folder: Path, token: str) -> None:
    ca = trustme.CA()
    certificate = ca.issue_cert("127.0.0.1")
    ca.cert_pem.write_to_path(folder / "ca.pem")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    # Service accounts' tokens are signed with it.
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (folder / "accounts.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "tokens.csv").write_text(f"{token},admin,1,system:masters\n", encoding="ascii")


def _kubeconfig(api: Api) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "test", "cluster": {"server": f"https://127.0.0.1:{api.port}", "certificate-authority": str(api.ca)}}
        ],
        "users": [{"name": "admin", "user": {"token": api.token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "current-context": "test",
    }


def _etcd_flags(folder: Path, port: int) -> list[str]:
    url = f"http://127.0.0.1:{port}"
    return [
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        "--listen-peer-urls=http://127.0.0.1:0",  # it has no peers
        "--log-level=warn",
    ]


def _server_flags(folder: Path, port: int, etcd_port: int) -> list[str]:
    return [
        f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--tls-cert-file={folder / 'server.pem'}",
        f"--tls-private-key-file={folder / 'server.pem'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder / 'accounts.pem'}",
        f"--service-account-signing-key-file={folder / 'accounts.pem'}",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--enable-priority-and-fairness=false",
    ]


def _controller_flags(folder: Path, kubeconfig: Path) -> list[str]:
    return [
        f"--kubeconfig={kubeconfig}",
        "--authentication-skip-lookup",
        f"--service-account-private-key-file={folder / 'accounts.pem'}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--secure-port=0",
        "--horizontal-pod-autoscaler-sync-period=1s",
        f"--controllers={','.join(_CONTROLLERS)}",
    ]


@contextlib.contextmanager
def _running(folder: Path, name: str, command: Sequence[str | Path]) -> Iterator["subprocess.Popen[bytes]"]:
    with (
        (folder / f"{name}.log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process,
    ):
        try:
            yield process
        finally:
            process.kill()  # nothing of it is wanted any more
            process.wait(_STOP_SECONDS)


def _await_ready(api: Api, server: "subprocess.Popen[bytes]", log: Path) -> None:
    give_up = time.monotonic() + _START_SECONDS
    while True:
        try:
            api.get("/api/v1/namespaces/default")  # the server makes it when it has started
        except (OSError, ApiError) as error:
            if server.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"the API server did not start:\n{log.read_text(errors='replace')[-4000:]}") from error
            time.sleep(0.05)
        else:
            return


def _define_custom_resources(api: Api) -> None:
    """Such as may hold anything."""
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    for kind, resource in _CUSTOM.items():
        name, version = resource.split("/")
        plural, group = name.split(".", 1)
        spec = {
            "group": group,
            "names": {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"},
            "scope": "Namespaced",
            "versions": [{"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        }
        api.create(definitions, {"metadata": {"name": name}, "spec": spec})

    def served(found: Sequence[Manifest]) -> bool | None:
        conditions = [condition for each in found for condition in each["status"]["conditions"] or ()]
        established = [each for each in conditions if (each["type"], each["status"]) == ("Established", "True")]
        return len(established) == len(_CUSTOM) or None

    api.wait(definitions, served)
