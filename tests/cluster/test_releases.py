"""Releases from their beginning to their end, by Helm's clients of both versions."""

import base64
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import pytest

from cluster.api import Api, Manifest
from cluster.pods import set_phase, set_ready
from cluster.releases import Helm, HelmError, Release
from helm.chart import CHART, EXAMPLES, Values, example, merged
from helm.variants import MINIMAL

_LEFT_BEHIND = {"Event"}
"""Kinds that controllers leave, and that end by themselves."""


def everything(api: Api, namespace: str) -> set[tuple[str, str]]:
    """By kind and name."""
    return {
        (resource.kind, thing["metadata"]["name"])
        for resource in api.resources
        if resource.namespaced and resource.kind not in _LEFT_BEHIND
        for thing in api.get(resource.path(namespace))["items"]
    }


def rendered(release: Release) -> set[tuple[str, str]]:
    """Without what controllers and Helm itself make."""
    made_since = {"ReplicaSet", "Pod", "EndpointSlice", "Secret"}
    return {each for each in everything(release.api, release.helm.namespace) if each[0] not in made_since}


def make_secret(helm: Helm, name: str) -> None:
    helm.cluster.api.create(f"/api/v1/namespaces/{helm.namespace}/secrets", {"metadata": {"name": name}})


def env_of(template: Manifest) -> dict[str, str]:
    (container,) = template["spec"]["containers"]
    return {variable["name"]: variable["value"] for variable in container["env"]}


def uninstall(release: Release, before: set[tuple[str, str]]) -> None:
    """All that came with it goes with it; what was there before stays."""
    release.helm.run("uninstall", release.name)
    for path in (release.pods, release.endpoint_slices):  # the last to go: garbage is collected from its owners downwards
        release.api.wait(path, lambda found: None if found else True)
    assert everything(release.api, release.helm.namespace) == before


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_installed_upgraded_rolled_back_and_uninstalled(helm: Helm, name: str) -> None:
    make_secret(helm, "bridge-keys")
    before = everything(helm.cluster.api, helm.namespace)

    release = helm.install("orders", example(name))
    first, template = release.rolled_out(), release.deployment["spec"]["template"]
    assert first["spec"]["replicas"] >= example(name).get("replicas", 1)

    helm.upgrade("orders", merged(example(name), {"shutdown": {"graceSeconds": 50}}))
    second = release.rolled_out()
    assert second["metadata"]["name"] != first["metadata"]["name"]
    upgraded = release.deployment["spec"]["template"]
    assert env_of(upgraded) == env_of(template) | {"BRIDGE_SHUTDOWN__GRACE_SECONDS": "50"}
    assert upgraded["spec"]["terminationGracePeriodSeconds"] == 65

    helm.run("rollback", "orders", "1")
    assert release.rolled_out()["metadata"]["name"] == first["metadata"]["name"]
    assert release.deployment["spec"]["template"] == template

    uninstall(release, before)


def test_a_release_goes_through_all_examples(helm: Helm) -> None:
    """Nothing that the server holds for immutable depends on values, and nothing stays of what one example had more."""
    before = everything(helm.cluster.api, helm.namespace)
    first, *others = EXAMPLES
    release = helm.install("orders", example(first))
    of_the_first = rendered(release)
    for name in [*others, first]:
        helm.upgrade("orders", example(name))
    assert rendered(release) == of_the_first
    uninstall(release, before)


@pytest.mark.parametrize("name", ["hpa", "keda"])
def test_an_upgrade_leaves_the_number_of_pods_to_the_autoscaler(helm: Helm, name: str) -> None:
    release = helm.install("orders", example(name))
    release.rolled_out()
    release.api.patch(f"{release.deployments}/{release.full_name}/scale", {"spec": {"replicas": 5}})
    helm.upgrade("orders", merged(example(name), {"log": {"level": "debug"}}))
    assert release.deployment["spec"]["replicas"] == 5
    helm.run("rollback", "orders")
    assert release.deployment["spec"]["replicas"] == 5


def test_the_horizontal_pod_autoscaler_finds_the_deployment(helm: Helm) -> None:
    """It knows no pod's CPU here, but keeps the least number of pods all the same."""
    release = helm.install("orders", merged(example("hpa"), {"autoscaling": {"minReplicas": 3}}))

    def enough(pods: Sequence[Manifest]) -> bool | None:
        return len(pods) == 3 or None

    assert release.api.wait(release.pods, enough)


def test_an_update_brings_no_more_pods_than_its_surge(helm: Helm) -> None:
    """`--wait` sees the end of it, when each pod is ready as soon as it is there."""
    values = merged(MINIMAL, {"replicas": 3, "minReadySeconds": 0})
    with helm.start("install", "orders", str(CHART), "--wait", "--timeout", "40s", values=values) as process:
        release = Release(helm, "orders")
        assert most_pods_while_they_get_ready(release, 3) == 3
        helm.end(process)
    values = merged(values, {"log": {"level": "debug"}})
    revisions = release.api.changes(release.revisions, seconds=30)
    assert pods_asked_for(next(revisions)) == [3]
    with helm.start("upgrade", "orders", str(CHART), "--wait", "--timeout", "40s", values=values) as process:
        most_pods_while_they_get_ready(release, 3, BRIDGE_LOG__LEVEL="debug")
        helm.end(process)
    # Surge bounds what is asked for: the new pod may be there before the one in whose place it is has been taken away.
    history = list(until(map(pods_asked_for, revisions), [0, 3]))
    assert max(map(sum, history)) == 3 + 1


def pods_asked_for(revisions: Sequence[Manifest]) -> list[int]:
    """By each replica set, the fewest first."""
    return sorted(revision["spec"]["replicas"] for revision in revisions)


def until(history: Iterator[list[int]], end: list[int]) -> Iterator[list[int]]:
    for each in history:
        yield each
        if each == end:
            return
    raise TimeoutError(f"what was asked for never became {end}")


def most_pods_while_they_get_ready(release: Release, wanted: int, **env: str) -> int:
    """Make each pod ready, until there are as many as wanted, of this environment; the most there were at once."""
    most = 0
    for pods in release.api.changes(release.pods, seconds=30):
        most = max(most, len(pods))
        for pod in pods:
            set_ready(release.api, pod)
        if len(pods) == wanted and all(env.items() <= env_of(pod).items() for pod in pods):
            return most
    raise TimeoutError("the update didn't end")


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_helm_test_says_what_became_of_its_pod(helm: Helm, phase: Literal["Succeeded", "Failed"]) -> None:
    release = helm.install("orders", MINIMAL)
    for _ in range(2):  # a second one replaces the first
        with helm.start("test", "orders") as process:
            set_phase(release.api, the_check(release), phase)
            if phase == "Succeeded":
                assert phase in helm.end(process)
            else:
                with pytest.raises(HelmError, match=f"{release.full_name}-check"):
                    helm.end(process)


def the_check(release: Release) -> Manifest:
    """The pod of `helm test`, as soon as it is there and hasn't ended."""
    labels = {"app.kubernetes.io/component": "check"}

    def checks(pods: Sequence[Manifest]) -> Manifest | None:
        found = [pod for pod in pods if labels.items() <= pod["metadata"]["labels"].items()]
        return next((pod for pod in found if pod["status"]["phase"] == "Pending"), None)

    return release.api.wait(release.pods, checks)


def test_pods_follow_a_secret_that_the_chart_makes(helm: Helm) -> None:
    before = everything(helm.cluster.api, helm.namespace)

    def values(access_key_secret: str) -> Values:
        keys = {"BRIDGE_ROCKETMQ__ACCESS_KEY_ID": "AKID", "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET": access_key_secret}
        return merged(MINIMAL, {"existingSecret": None, "secret": keys})

    release = helm.install("orders", values("old"))
    first = release.rolled_out()
    assert access_key_secret(release) == "old"
    helm.upgrade("orders", values("new"))
    assert release.rolled_out()["metadata"]["name"] != first["metadata"]["name"]
    assert access_key_secret(release) == "new"
    helm.run("rollback", "orders")
    assert release.rolled_out()["metadata"]["name"] == first["metadata"]["name"]
    assert access_key_secret(release) == "old"
    uninstall(release, before)


def access_key_secret(release: Release) -> str:
    secret: dict[str, Any] = release.api.get(f"/api/v1/namespaces/{release.helm.namespace}/secrets/{release.full_name}")
    return base64.b64decode(secret["data"]["BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET"]).decode()
