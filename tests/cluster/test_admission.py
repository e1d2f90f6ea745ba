"""What is rendered is admitted: by the API server's own schemas, and by the restricted Pod Security standard."""

from collections.abc import Mapping, Sequence

import pytest

from cluster.api import ApiError, Manifest
from cluster.control_plane import ControlPlane
from cluster.releases import Helm
from helm.chart import Values, manifests, merged, one
from helm.variants import MINIMAL, VARIANTS

PROBLEMS: Mapping[str, Values] = {
    "allowPrivilegeEscalation": {"securityContext": {"allowPrivilegeEscalation": True}},
    "unrestricted capabilities": {"securityContext": {"capabilities": {"drop": []}}},
    "runAsNonRoot": {"podSecurityContext": {"runAsNonRoot": False}},
    "seccompProfile": {"podSecurityContext": {"seccompProfile": {"type": "Unconfined"}}},
}
"""What the restricted standard refuses, and values that render it."""


def remarks(cluster: ControlPlane, namespace: str, found: Sequence[Manifest]) -> list[str]:
    """Of the API server, which is asked whether it would take these manifests. Raises ApiError when it wouldn't."""
    made = []
    for manifest in found:
        manifest["metadata"]["namespace"] = namespace
        # A pod's service account must be there for the pod to be admitted.
        dry_run = {} if manifest["kind"] == "ServiceAccount" else {"dryRun": "All"}
        made.append(cluster.api.create(cluster.api.path_of(manifest, namespace), manifest, **dry_run))
    return [warning for each in made for warning in each.warnings]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_api_server_takes_what_is_rendered(cluster: ControlPlane, namespace: str, variant: str) -> None:
    found = manifests(VARIANTS[variant])
    found.sort(key=lambda manifest: manifest["kind"] != "ServiceAccount")
    if name := one(found, "Pod")["spec"].get("priorityClassName"):
        cluster.api.create("/apis/scheduling.k8s.io/v1/priorityclasses", {"metadata": {"name": name}, "value": 1000})
    assert not remarks(cluster, namespace, found)


def test_the_api_server_refuses_what_is_misspelt(cluster: ControlPlane, namespace: str) -> None:
    misspelt = merged(one(manifests(MINIMAL), "Deployment"), {"spec": {"template": {"spec": {"tpyo": 1}}}})
    with pytest.raises(ApiError, match=r'unknown field "spec\.template\.spec\.tpyo"'):
        remarks(cluster, namespace, [misspelt])


@pytest.mark.parametrize("problem", PROBLEMS)
def test_pods_that_are_not_restricted_are_refused(helm: Helm, problem: str) -> None:
    release = helm.install("orders", merged(MINIMAL, PROBLEMS[problem]))

    def refusal(found: Sequence[Manifest]) -> str | None:
        conditions = [condition for each in found for condition in each.get("status", {}).get("conditions", ())]
        return next((each["message"] for each in conditions if each["type"] == "ReplicaFailure"), None)

    reason = release.api.wait(release.revisions, refusal)
    assert 'violates PodSecurity "restricted:latest"' in reason
    assert problem in reason
    assert not release.api.get(release.pods)["items"]
    # And whoever installs is told so.
    assert any(problem in remark for remark in helm.remarks)
    helm.remarks.clear()


@pytest.mark.parametrize("values", [{}, {"fullnameOverride": "f" * 63}, {"nameOverride": "n" * 63}], ids=repr)
def test_the_longest_names_are_admitted(helm: Helm, values: Values) -> None:
    longest = merged(MINIMAL, values, {"replicas": 2, "metrics": {"dashboard": {"enabled": True}}})
    name = "r" * 53  # Helm's own limit
    release = helm.install(name, longest)
    assert release.api.wait(release.pods, lambda pods: len(pods) == 2 or None)
