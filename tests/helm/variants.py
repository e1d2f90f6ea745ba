"""Values to render: each example, each switch the other way round, and what else there is to choose."""

from collections.abc import Iterator, Mapping
from typing import Any

from helm.chart import EXAMPLES, Values, at, defaults, example, merged

MINIMAL = example("minimal")
BASE = merged(MINIMAL, {"replicas": 2})
"""Two pods, so that what is made for several is there."""

_COMPANIONS: Mapping[str, Values] = {
    "rrsa.enabled": {"existingSecret": None, "rrsa": {"roleName": "orders-bridge"}},
    "autoscaling.keda.enabled": {
        "management": {"enabled": True},
        "autoscaling": {"keda": {"prometheus": {"serverAddress": "http://prometheus:9090"}}},
    },
    "networkPolicy.enabled": {"networkPolicy": {"egress": [{"to": [{"ipBlock": {"cidr": "100.64.0.0/10"}}]}]}},
    "networkPolicy.cilium.enabled": {"networkPolicy": {"enabled": True}},
    "metrics.prometheusRule.consumerOffline": {"metrics": {"prometheusRule": {"enabled": True}}},
}
"""What a switch needs to make sense."""


def _switches(values: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], bool]]:
    for key, value in values.items():
        if isinstance(value, bool):
            yield (*above, key), value
        elif isinstance(value, Mapping) and key not in _OF_KUBERNETES:
            yield from _switches(value, (*above, key))


_OF_KUBERNETES = ("podSecurityContext", "securityContext")

SWITCHES = {
    ".".join(path): merged(BASE, _COMPANIONS.get(".".join(path), {}), at(path, not value))
    for path, value in _switches(defaults())
}

_LABELS = {"team": "orders"}
_MONITOR = {
    "enabled": True,
    "labels": _LABELS,
    "interval": "30s",
    "scrapeTimeout": "5s",
    "relabelings": [{"action": "labeldrop", "regex": "pod"}],
    "metricRelabelings": [{"action": "drop", "sourceLabels": ["__name__"], "regex": "bridge_ack_slack_seconds_bucket"}],
}

CHOICES: Mapping[str, Values] = {
    "a Secret made": merged(
        BASE,
        {
            "existingSecret": None,
            "secret": {"BRIDGE_ROCKETMQ__ACCESS_KEY_ID": "AKID", "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET": "SECRET"},
        },
    ),
    "no Secret": merged(BASE, {"existingSecret": None}),
    "a token mounted": merged(
        BASE,
        {
            "existingSecret": None,
            "rrsa": {
                "enabled": True,
                "roleArn": "acs:ram::1234567890123456:role/orders-bridge",
                "oidcProviderArn": "acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0123456789abcdef",
            },
        },
    ),
    "a digest": merged(BASE, {"image": {"digest": f"sha256:{'0123456789abcdef' * 4}", "pullPolicy": "Always"}}),
    "Recreate": merged(BASE, {"strategy": {"type": "Recreate"}}),
    "KEDA asks the pods": merged(
        example("keda"),
        {"autoscaling": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 600}}, "keda": {"scaler": "metrics-api"}}},
    ),
    "KEDA logs in": merged(
        example("keda"),
        {
            "autoscaling": {
                "keda": {
                    "authenticationRef": {"name": "prometheus"},
                    "prometheus": {"metadata": {"authModes": "bearer"}},
                    "annotations": {"autoscaling.keda.sh/paused": "true"},
                },
            }
        },
    ),
    "a PodMonitor with everything": merged(BASE, {"metrics": {"podMonitor": _MONITOR}}),
    "a ServiceMonitor with everything": merged(BASE, {"metrics": {"serviceMonitor": _MONITOR}}),
    "everything around the pods": merged(
        BASE,
        {
            "commonLabels": _LABELS,
            "annotations": {"reloader.stakater.com/auto": "true"},
            "podLabels": {"tier": "events"},
            "podAnnotations": {"example.com/note": "hello"},
            "imagePullSecrets": [{"name": "registry"}],
            "extraEnv": [
                {"name": "HTTPS_PROXY", "value": "http://proxy:3128"},
                {"name": "NODE_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
            ],
            "envFrom": [{"configMapRef": {"name": "proxies"}}],
            "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
            "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/bridge"}],
            "nodeSelector": {"kubernetes.io/arch": "arm64"},
            "tolerations": [{"key": "spot", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"}
            ],
            "priorityClassName": "high",
            "serviceAccount": {"name": "bridge", "annotations": {"example.com/note": "hello"}},
            "service": {"annotations": {"example.com/note": "hello"}},
            "podDisruptionBudget": {"maxUnavailable": "50%"},
            "minReadySeconds": 0,
            "terminationGracePeriodSeconds": 120,
            "extraManifests": [
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-more"}},
                "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-text\n",
            ],
        },
    ),
}

VARIANTS = {**{name: example(name) for name in EXAMPLES}, **SWITCHES, **CHOICES}
