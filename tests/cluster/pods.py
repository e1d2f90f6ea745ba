"""Says of pods what a kubelet would say of them."""

from typing import Literal

from cluster.api import Api, Manifest


def set_phase(api: Api, pod: Manifest, phase: Literal["Running", "Succeeded", "Failed"]) -> None:
    _set_status(api, pod, {"phase": phase})


def set_ready(api: Api, pod: Manifest, *, ready: bool = True, address: str = "10.0.0.1") -> None:
    """It runs, and passes its readiness probe or not."""
    known = {condition["type"]: condition["status"] for condition in pod["status"].get("conditions", ())}
    if known.get("Ready") != str(ready):
        condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": pod["metadata"]["creationTimestamp"]}
        _set_status(api, pod, {"phase": "Running", "conditions": [condition], "podIP": address, "podIPs": [{"ip": address}]})


def _set_status(api: Api, pod: Manifest, status: Manifest) -> None:
    metadata = pod["metadata"]
    api.patch(f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status", {"status": status})
