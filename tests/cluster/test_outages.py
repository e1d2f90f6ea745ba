"""In an outage no pod is ready, and the chart promises that this hinders nobody."""

from collections.abc import Sequence

import pytest

from cluster.api import ApiError, Manifest
from cluster.pods import set_ready
from cluster.releases import Helm, Release
from helm.chart import merged
from helm.variants import MINIMAL

pytestmark = pytest.mark.parametrize("helm", ["helm4"], indirect=True)  # it is Kubernetes that is asked

ADDRESSES = ("10.0.0.1", "10.0.0.2")


@pytest.fixture
def release(helm: Helm) -> Release:
    """Of two pods."""
    release = helm.install("orders", merged(MINIMAL, {"replicas": 2}))
    release.rolled_out()
    return release


def run_pods(release: Release, *, ready: bool) -> list[Manifest]:
    pods: list[Manifest] = release.api.get(release.pods)["items"]
    for pod, address in zip(pods, ADDRESSES, strict=True):
        set_ready(release.api, pod, ready=ready, address=address)
    return pods


def evict(release: Release, pod: Manifest) -> None:
    """As whoever empties a node does. Raises ApiError."""
    name = pod["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    release.api.create(f"{release.pods}/{name}/eviction", eviction)


def await_budget(release: Release, **status: int) -> None:
    """Until the disruption controller has seen what it should."""

    def seen(budgets: Sequence[Manifest]) -> bool | None:
        return any(status.items() <= budget["status"].items() for budget in budgets) or None

    release.api.wait(f"/apis/policy/v1/namespaces/{release.helm.namespace}/poddisruptionbudgets", seen)


def test_an_emptied_node_takes_one_pod_at_a_time_of_those_that_are_ready(release: Release) -> None:
    one, other = run_pods(release, ready=True)
    await_budget(release, expectedPods=2, currentHealthy=2, disruptionsAllowed=1)
    evict(release, one)
    with pytest.raises(ApiError, match="disruption budget") as refused:
        evict(release, other)
    assert refused.value.status == 429


def test_a_node_can_be_emptied_of_pods_that_are_not_ready(release: Release) -> None:
    pods = run_pods(release, ready=False)
    await_budget(release, expectedPods=2, currentHealthy=0, disruptionsAllowed=0)
    for pod in pods:
        evict(release, pod)


def test_the_service_names_pods_that_are_not_ready(release: Release) -> None:
    run_pods(release, ready=False)

    def named(slices: Sequence[Manifest]) -> bool | None:
        endpoints = [endpoint for each in slices for endpoint in each["endpoints"] or ()]
        found = {address for endpoint in endpoints if endpoint["conditions"]["ready"] for address in endpoint["addresses"]}
        return found == set(ADDRESSES) or None

    assert release.api.wait(release.endpoint_slices, named)
