from collections.abc import Mapping
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from bridge import __version__
from helm.chart import CHART, EXAMPLES, NEWEST, OLDEST, Manifest, example, files, manifests, merged, one, pods
from helm.schemas import ModelsMissingError, custom_complaints, kubernetes_complaints
from helm.variants import BASE, CHOICES, MINIMAL, SWITCHES, VARIANTS
from missing import skip_without

WARNING = 2
"""A severity, as the library numbers them."""


@pytest.mark.parametrize("values", [{}, *map(example, EXAMPLES)], ids=["the defaults", *EXAMPLES])
def test_lint_finds_nothing(values: Mapping[str, Any]) -> None:
    report = helm_python.lint(CHART, dict(values), strict=True, kube_version=f"v{OLDEST}")
    assert not report["errors"]
    assert not [message for message in report["messages"] if message["severity"] >= WARNING]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("variant", VARIANTS)
def test_kubernetes_takes_what_is_rendered(variant: str, version: str) -> None:
    assert not kubernetes_complaints(manifests(VARIANTS[variant], kubernetes=version), version=version)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_complains_of_what_is_misspelt(version: str) -> None:
    misspelt = merged(one(manifests(MINIMAL), "Deployment"), {"spec": {"template": {"spec": {"tpyo": 1}}}})
    (complaint,) = kubernetes_complaints([misspelt], version=version)
    assert "tpyo" in complaint


def test_keda_and_the_prometheus_operator_take_what_is_rendered() -> None:
    kinds = {"ScaledObject", "PodMonitor", "ServiceMonitor", "PrometheusRule"}  # Cilium publishes no schema that a package has
    custom = [manifest for values in VARIANTS.values() for manifest in manifests(values) if manifest["kind"] in kinds]
    assert {manifest["kind"] for manifest in custom} == kinds
    misspelt = merged(custom[0], {"spec": {"tpyo": 1}})
    try:
        *complaints, about_the_misspelt = custom_complaints([*custom, misspelt])
    except ModelsMissingError as missing:
        skip_without(missing)
    assert not [complaint for each in complaints for complaint in each]
    assert about_the_misspelt == ["/spec/tpyo is in no schema"]


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_changes_what_is_rendered(switch: str) -> None:
    assert files(SWITCHES[switch]) != files(BASE)


@pytest.mark.parametrize("variant", VARIANTS)
def test_pods_are_restricted(variant: str) -> None:
    """As the restricted Pod Security standard has it, and with a root that can't be written."""
    for pod in pods(manifests(VARIANTS[variant])):
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert {kind for volume in pod.get("volumes", []) for kind in volume} <= {"name", "projected", "configMap"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


@pytest.mark.parametrize("variant", VARIANTS)
def test_pods_get_no_token_of_the_cluster_and_no_variables_of_its_services(variant: str) -> None:
    for pod in pods(manifests(VARIANTS[variant])):
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False


@pytest.mark.parametrize("variant", VARIANTS)
def test_selectors_find_the_bridge_and_not_the_pod_of_helm_test(variant: str) -> None:
    found = manifests(VARIANTS[variant])
    ours = one(found, "Deployment")["spec"]["template"]["metadata"]["labels"]
    check = one(found, "Pod")["metadata"]["labels"]
    for manifest in found:
        spec = manifest.get("spec", {})
        match manifest["kind"]:
            case "Deployment" | "PodDisruptionBudget" | "PodMonitor":
                selector = spec["selector"]["matchLabels"]
            case "Service":
                selector = spec["selector"]
            case _:
                continue
        assert selector.items() <= ours.items()
        assert not selector.items() <= check.items()


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_line_is_blank_or_ends_in_a_space(variant: str) -> None:
    for path, text in files(VARIANTS[variant]).items():
        lines = text.strip().splitlines()
        assert path == "NOTES.txt" or all(lines), path
        assert all(line == line.rstrip() for line in lines), path


def test_the_chart_is_of_the_version_of_the_bridge() -> None:
    metadata = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert (metadata["version"], metadata["appVersion"]) == (__version__, __version__)


def test_the_minimum_is_a_deployment_a_service_and_a_service_account() -> None:
    found = [manifest for manifest in manifests(MINIMAL) if "annotations" not in manifest["metadata"]]
    assert sorted(manifest["kind"] for manifest in found) == ["Deployment", "Service", "ServiceAccount"]


def test_the_service_lists_pods_that_are_not_ready() -> None:
    spec = one(manifests(MINIMAL), "Service")["spec"]
    assert (spec["clusterIP"], spec["publishNotReadyAddresses"]) == ("None", True)


@pytest.mark.parametrize(("grace", "period"), [(45, 60), (10, 25), (600, 615)])
def test_a_pod_is_killed_only_after_its_grace(grace: int, period: int) -> None:
    pod, _ = pods(manifests(merged(MINIMAL, {"shutdown": {"graceSeconds": grace}})))
    assert pod["terminationGracePeriodSeconds"] == period


def test_an_update_waits_until_the_polls_of_the_pod_that_goes_have_come_back() -> None:
    spec = one(manifests(merged(MINIMAL, {"rocketmq": {"waitSeconds": 20}})), "Deployment")["spec"]
    assert spec["minReadySeconds"] == 20
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize("name", ["hpa", "keda"])
def test_a_deployment_that_something_scales_states_no_number_of_pods(name: str) -> None:
    assert "replicas" not in one(manifests(example(name)), "Deployment")["spec"]


def test_a_secret_that_changes_starts_new_pods() -> None:
    made = CHOICES["a Secret made"]
    changed = merged(made, {"secret": {"BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET": "ANOTHER"}})
    before, after = (one(manifests(values), "Deployment")["spec"]["template"]["metadata"] for values in (made, changed))
    assert before["labels"] == after["labels"]
    assert before["annotations"].keys() == after["annotations"].keys() == {"checksum/secret"}
    assert before["annotations"] != after["annotations"]


def test_no_secret_is_anywhere_but_in_the_secret() -> None:
    for path, text in files(CHOICES["a Secret made"]).items():
        assert ("AKID" in text) == (path == "secret.yaml")


def test_an_image_is_named_by_tag_and_rather_by_digest() -> None:
    def image(**given: str) -> str:
        pod, check = pods(manifests(merged(MINIMAL, {"image": {"repository": "r/bridge", **given}})))
        assert pod["containers"][0]["image"] == check["containers"][0]["image"]
        return str(pod["containers"][0]["image"])

    digest = f"sha256:{'0' * 64}"
    assert image() == f"r/bridge:{__version__}"
    assert image(tag="edge") == "r/bridge:edge"
    assert image(tag="edge", digest=digest) == f"r/bridge@{digest}"


def test_a_role_is_taken_on_by_annotation_where_the_cluster_gives_tokens() -> None:
    found = manifests(example("rrsa"))
    assert one(found, "ServiceAccount")["metadata"]["annotations"] == {
        "pod-identity.alibabacloud.com/role-name": "orders-bridge",
        "pod-identity.alibabacloud.com/service-account-token-expiration": "3600",
    }
    for labels in (one(found, "Deployment")["spec"]["template"]["metadata"]["labels"], one(found, "Pod")["metadata"]["labels"]):
        assert labels["pod-identity.alibabacloud.com/injection"] == "on"


def test_a_role_is_taken_on_by_a_token_that_the_chart_mounts_elsewhere() -> None:
    for pod in pods(manifests(CHOICES["a token mounted"])):
        (volume,) = pod["volumes"]
        (source,) = volume["projected"]["sources"]
        assert source["serviceAccountToken"] == {"audience": "sts.aliyuncs.com", "expirationSeconds": 3600, "path": "token"}
        (container,) = pod["containers"]
        (mount,) = container["volumeMounts"]
        env = {variable["name"]: variable["value"] for variable in container["env"]}
        assert env["ALIBABA_CLOUD_OIDC_TOKEN_FILE"] == f"{mount['mountPath']}/token"
        assert env["ALIBABA_CLOUD_ROLE_ARN"].endswith("role/orders-bridge")
        assert env["ALIBABA_CLOUD_OIDC_PROVIDER_ARN"].endswith("oidc-provider/ack-rrsa-c0123456789abcdef")


def test_common_labels_are_on_everything() -> None:
    found = manifests(CHOICES["everything around the pods"])
    ours = [manifest for manifest in found if manifest["kind"] != "ConfigMap"]  # which are the test's own
    for metadata in (one(found, "Deployment")["spec"]["template"]["metadata"], *(manifest["metadata"] for manifest in ours)):
        assert metadata["labels"]["team"] == "orders"


def test_pods_spread_over_zones_and_nodes_where_there_are_several() -> None:
    def spread(**more: Any) -> list[dict[str, Any]]:
        pod, _ = pods(manifests(merged(MINIMAL, more)))
        return list(pod.get("topologySpreadConstraints", []))

    assert spread() == []
    zones, nodes = spread(replicas=2)
    assert (zones["topologyKey"], nodes["topologyKey"]) == ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    given = {"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}
    assert spread(topologySpreadConstraints=[given]) == [{**given, "labelSelector": zones["labelSelector"]}]
    assert spread(topologySpreadConstraints=[], replicas=2) == []


@pytest.mark.parametrize(
    ("values", "remark"),
    [
        ({}, "kubectl --namespace prod rollout status deployment/orders-rocketmq-bridge\n"),
        ({}, "it consumes nothing, and pods that deliver already go on:\n  helm test orders --namespace prod --logs\n"),
        ({"sink": "stdout"}, "no place to keep messages"),
        ({"existingSecret": None}, "No access key is given"),
        ({"existingSecret": None, "secret": {"BRIDGE_KAFKA__SASL_PASSWORD": "x"}}, "No access key is given"),
        ({"existingSecret": None, "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy"}]}, "No access key is given"),
        (
            {"existingSecret": None, "extraSecrets": [{"name": "user", "items": {"password": "BRIDGE_KAFKA__SASL_PASSWORD"}}]},
            "No access key is given",
        ),
        ({"shutdown": {"graceSeconds": 30}}, "shutdown.graceSeconds isn't longer than rocketmq.waitSeconds"),
    ],
)
def test_the_notes_say_what_to_do_and_what_to_mind(values: dict[str, Any], remark: str) -> None:
    assert remark in files(merged(MINIMAL, values))["NOTES.txt"]
    assert not values or remark not in files(MINIMAL)["NOTES.txt"]


@pytest.mark.parametrize(
    "values",
    [
        {"secret": {"BRIDGE_ROCKETMQ__ACCESS_KEY_ID": "AKID", "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET": "SECRET"}},
        {"extraEnv": [{"name": "BRIDGE_ROCKETMQ__ACCESS_KEY_ID", "value": "AKID"}]},
        {"extraEnv": [{"name": "bridge_rocketmq__access_key_id", "value": "AKID"}]},
        {"envFrom": [{"secretRef": {"name": "keys"}}]},
        {"extraSecrets": [{"name": "keys"}]},
        {"extraSecrets": [{"name": "keys", "items": {"id": "BRIDGE_ROCKETMQ__ACCESS_KEY_ID"}}]},
        {"extraVolumes": [{"name": "keys", "csi": {}}], "extraVolumeMounts": [{"name": "keys", "mountPath": "/run/secrets"}]},
        {"rrsa": {"enabled": True, "roleName": "orders-bridge"}},
    ],
)
def test_the_notes_miss_no_access_key_where_there_is_or_may_be_one(values: dict[str, Any]) -> None:
    assert "No access key" not in files(merged(MINIMAL, {"existingSecret": None}, values))["NOTES.txt"]


def test_a_text_with_a_dollar_sign_comes_through_as_it_is() -> None:
    """Kubernetes would put a variable in the place of `$(NAME)`."""
    (container,) = pods(manifests(merged(MINIMAL, {"event": {"source": "/$(HOSTNAME)/x"}})))[0]["containers"]
    env = {variable["name"]: variable["value"] for variable in container["env"]}
    assert env["BRIDGE_EVENT__SOURCE"] == "/$$(HOSTNAME)/x"


# ---- the folders that alerts and dashboards come from ----------------------------------------------------------------


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """The chart with two alerts and a dashboard of the test's own."""
    chart = tmp_path / CHART.name
    for path in ("Chart.yaml", "values.yaml", "values.schema.json", *_templates()):
        (chart / path).parent.mkdir(parents=True, exist_ok=True)
        (chart / path).write_bytes((CHART / path).read_bytes())
    (chart / "rules").mkdir()
    (chart / "rules" / "some.yaml").write_text(
        "groups:\n- name: some\n  rules:\n"
        "  - alert: First\n    expr: up == 0\n    annotations: {summary: '{{ $labels.pod }} is down'}\n"
        "  - alert: Second\n    expr: up == 1\n"
    )
    (chart / "dashboards").mkdir()
    (chart / "dashboards" / "bridge.json").write_text('{"title": "{{ kept }}"}\n')
    return chart


def _templates() -> list[str]:
    return [str(path.relative_to(CHART)) for path in (CHART / "templates").rglob("*") if path.is_file()]


def _rule(chart: Path, **given: Any) -> Manifest:
    values = merged(MINIMAL, {"metrics": {"prometheusRule": {"enabled": True, **given}}})
    return one(manifests(values, chart=chart), "PrometheusRule")


def test_alerts_come_as_they_are_in_their_files(filled: Path) -> None:
    rule = _rule(filled, labels={"release": "prometheus"})
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    (group,) = rule["spec"]["groups"]
    assert [alert["alert"] for alert in group["rules"]] == ["First", "Second"]
    assert group["rules"][0]["annotations"] == {"summary": "{{ $labels.pod }} is down"}


def test_an_alert_can_be_left_out(filled: Path) -> None:
    (group,) = _rule(filled, disabled=["First"])["spec"]["groups"]
    assert [alert["alert"] for alert in group["rules"]] == ["Second"]
    assert _rule(filled, disabled=["First", "Second"])["spec"]["groups"] == []


def test_an_alert_that_is_left_out_must_be_one(filled: Path) -> None:
    with pytest.raises(helm_python.HelmRenderError, match="there is no alert Frist"):
        _rule(filled, disabled=["Frist"])


def test_a_dashboard_comes_as_it_is_in_its_file(filled: Path) -> None:
    values = merged(MINIMAL, {"metrics": {"dashboard": {"enabled": True}}})
    dashboards = one(manifests(values, chart=filled), "ConfigMap")
    assert dashboards["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert dashboards["data"] == {"bridge.json": '{"title": "{{ kept }}"}\n'}
