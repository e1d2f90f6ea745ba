"""Values that are right each by itself and not together are refused, with a sentence, and all at once."""

import re
from typing import Any

import helm_python
import pytest

from helm.chart import example, manifests, merged
from helm.variants import MINIMAL

KEDA, HPA = example("keda"), example("hpa")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"rocketmq": {"endpoint": None}}, "rocketmq.endpoint, the instance's HTTP endpoint, is required"),
        ({"rocketmq": {"topic": None}}, "rocketmq.topic is required"),
        ({"rocketmq": {"groupId": None}}, "rocketmq.groupId, the consumer group, is required"),
        ({"sink": None}, "sink, where events go: kafka, webhook, stdout, or another that the image has, is required"),
        ({"kafka": {"topic": None}}, "kafka.topic is required"),
        ({"kafka": {"bootstrapServers": None}}, "kafka.bootstrapServers is required"),
        ({"sink": "stdout, webhook", "existingSecret": None}, "webhook.url is required"),
        (
            {"rocketmq": {"ordered": True}, "kafka": {"key": "id"}},
            "rocketmq.ordered needs the sharding key as the key in Kafka, and kafka.key is id",
        ),
        ({"delivery": {"maxDeliveries": 3}}, "delivery.maxDeliveries needs deadLetter.sink"),
        ({"deadLetter": {"sink": "kafka"}}, "deadLetter.kafka.topic must be set, and be another than kafka.topic"),
        (
            {"deadLetter": {"sink": "kafka", "kafka": {"topic": "orders"}}},
            "deadLetter.kafka.topic must be set, and be another than kafka.topic",
        ),
        ({"management": {"required": True}}, "management.required needs management.enabled"),
        (
            {"extraEnv": [{"name": "BRIDGE_KAFKA__TOPIC", "value": "x"}]},
            "extraEnv holds BRIDGE_KAFKA__TOPIC, which other values set too",
        ),
        ({"secret": {"BRIDGE_KAFKA__SASL_PASSWORD": "x"}}, "secret and existingSecret are both set"),
        ({"rrsa": {"enabled": True}}, "rrsa needs roleName, where the cluster has ack-pod-identity-webhook, or else roleArn"),
        (
            {"rrsa": {"enabled": True, "roleName": "a", "roleArn": "acs:ram::1:role/a"}},
            "or else roleArn; and not both",
        ),
        ({"rrsa": {"enabled": True, "roleArn": "acs:ram::1:role/a"}}, "rrsa.roleArn needs rrsa.oidcProviderArn"),
        (
            {"rrsa": {"enabled": True}, "existingSecret": None, "secret": {"BRIDGE_ROCKETMQ__ACCESS_KEY_ID": "AKID"}},
            "rrsa is enabled, but secret holds an access key",
        ),
        ({"shutdown": {"graceSeconds": 60}, "terminationGracePeriodSeconds": 60}, "must be more than shutdown.graceSeconds"),
        (
            {"metrics": {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}},
            "metrics.podMonitor and metrics.serviceMonitor are both enabled",
        ),
        (
            {"metrics": {"serviceMonitor": {"enabled": True}}, "service": {"enabled": False}},
            "metrics.serviceMonitor needs service.enabled",
        ),
        ({"networkPolicy": {"enabled": True}}, "networkPolicy.egress is empty, so that no message could flow"),
        ({"networkPolicy": {"cilium": {"enabled": True}}}, "networkPolicy.cilium needs networkPolicy.enabled"),
        ({"strategy": {"maxSurge": 0}}, "strategy.maxSurge and strategy.maxUnavailable are both 0"),
    ],
)
def test_a_contradiction_is_refused_with_a_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(helm_python.HelmRenderError, match=re.escape(sentence)):
        manifests(merged(MINIMAL, values))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (merged(KEDA, {"autoscaling": {"hpa": {"enabled": True}}}), "autoscaling.hpa and autoscaling.keda are both enabled"),
        (merged(KEDA, {"management": {"enabled": None}}), "autoscaling.keda needs management.enabled"),
        (
            merged(KEDA, {"autoscaling": {"keda": {"prometheus": {"serverAddress": None}}}}),
            "autoscaling.keda.prometheus.serverAddress is required",
        ),
        (
            merged(KEDA, {"autoscaling": {"keda": {"scaler": "metrics-api"}}, "service": {"enabled": False}}),
            "autoscaling.keda.scaler metrics-api needs service.enabled",
        ),
        (merged(HPA, {"autoscaling": {"minReplicas": 9}}), "autoscaling.minReplicas is 9, more than autoscaling.maxReplicas"),
        (merged(HPA, {"resources": {"requests": {"cpu": None}}}), "autoscaling.hpa needs resources.requests.cpu"),
    ],
)
def test_what_cannot_be_scaled_is_refused_with_a_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(helm_python.HelmRenderError, match=re.escape(sentence)):
        manifests(values)


def test_everything_is_refused_at_once() -> None:
    with pytest.raises(helm_python.HelmRenderError) as refused:
        manifests({})
    assert len(str(refused.value).splitlines()) == 5  # a line of Helm's own, and four that are required


@pytest.mark.parametrize(
    ("values", "connections"),
    [
        ({"replicas": 10}, 99),
        ({"replicas": 11, "strategy": {"maxSurge": 0, "maxUnavailable": 1}}, 99),
        ({"replicas": 11, "strategy": {"type": "Recreate"}}, 99),
        ({"replicas": 49, "rocketmq": {"maxPollers": 1}}, 100),
        ({"replicas": 19, "rocketmq": {"maxPollers": 9}, "connectionBudget": {"instance": 300, "usedByOthers": 100}}, 200),
        ({"replicas": 0, "autoscaling": {"maxReplicas": 10, "hpa": {"enabled": True}}}, 99),
        ({"replicas": 99, "autoscaling": {"maxReplicas": 10, "hpa": {"enabled": True}}}, 99),
    ],
)
def test_the_connections_keep_to_the_budget(values: dict[str, Any], connections: int) -> None:
    """Of a pod they are one more than its pollers."""
    budget = {"connectionBudget": {"instance": 100}}
    manifests(merged(MINIMAL, budget, values))
    left = merged(budget, values)["connectionBudget"]
    one_less = {"connectionBudget": {"instance": connections - 1 + left.get("usedByOthers", 0)}}
    with pytest.raises(helm_python.HelmRenderError, match=f"are {connections} connections, and connectionBudget leaves"):
        manifests(merged(MINIMAL, values, one_less))


@pytest.mark.parametrize(
    "values",
    [
        {"rocketmq": {"topic": None}, "envFrom": [{"configMapRef": {"name": "settings"}}]},
        {"rocketmq": {"topic": None}, "extraEnv": [{"name": "BRIDGE_ROCKETMQ__TOPIC", "value": "orders"}]},
        {"sink": "webhook"},  # whose URL may be a secret
        {"sink": "nats", "extraEnv": [{"name": "BRIDGE_NATS__URL", "value": "nats://nats:4222"}]},
        {"rocketmq": {"ordered": True}, "kafka": {"key": "sharding"}},
        {"deadLetter": {"sink": "kafka", "kafka": {"topic": "letters"}}, "delivery": {"maxDeliveries": 3}},
    ],
)
def test_what_may_be_right_is_not_refused(values: dict[str, Any]) -> None:
    assert manifests(merged(MINIMAL, values))
