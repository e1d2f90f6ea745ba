"""Mistakes in the settings are found before anything is opened."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bridge.errors import FixSettingsError
from bridge.loading import load
from bridge.settings import RunSettings
from bridge.sinks.kafka import KafkaSettings, KafkaSink

GIVEN: dict[str, Any] = {"bootstrap_servers": "localhost:9092", "topic": "t"}
SCRAM = {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512"}
OAUTH = {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"bootstrap_servers": "kafka://user:secret@host"}, "bootstrap_servers"),
        ({"bootstrap_servers": ""}, "bootstrap_servers"),
        ({"topic": "with spaces"}, "topic"),
        ({"topic": ".."}, "topic"),
        ({"topic": "a" * 250}, "topic"),
        ({"topic": "t-{unknown}"}, "topic"),
        ({"key": "whatever"}, "key"),
        ({"compression": "brotli"}, "compression"),
        ({"security_protocol": "TLS"}, "security_protocol"),
        ({"sasl_mechanism": "GSSAPI"}, "sasl_mechanism"),
        ({"ssl_cafile": "/ca.pem"}, "ssl_cafile"),
        (SCRAM, "SASL_USERNAME and SASL_PASSWORD should be set"),
        (SCRAM | {"sasl_username": "alice"}, "SASL_PASSWORD should be set"),
        (OAUTH | {"sasl_oauthbearer_client_id": "a"}, "SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL"),
        ({"acks": "1"}, "acks"),
    ],
)
def test_a_mistake_is_named(settings: dict[str, str], complaint: str) -> None:
    with pytest.raises(ValidationError) as mistake:
        KafkaSettings.model_validate(GIVEN | settings)
    assert complaint in str(mistake.value)


def test_values_come_from_strings() -> None:
    settings = KafkaSettings.model_validate(GIVEN | {"batch_size": "1MiB", "linger_ms": "20", "ssl_check_hostname": "false"})
    assert (settings.batch_size, settings.linger_ms, settings.ssl_check_hostname) == (1024 * 1024, 20, False)


@pytest.mark.parametrize("key", ["id", "none", "property:customer"])
def test_order_wants_the_sharding_key(key: str) -> None:
    with pytest.raises(FixSettingsError, match="KEY"):
        KafkaSink(KafkaSettings.model_validate(GIVEN | {"key": key})).keep_order()


@pytest.mark.parametrize("key", ["auto", "sharding"])
def test_order_takes_the_sharding_key(key: str) -> None:
    KafkaSink(KafkaSettings.model_validate(GIVEN | {"key": key})).keep_order()


def test_the_environment_is_enough_and_a_password_is_never_shown(tmp_path: Path) -> None:
    environ = {
        "BRIDGE_SINK": "kafka",
        "BRIDGE_ROCKETMQ__ENDPOINT": "http://localhost",
        "BRIDGE_ROCKETMQ__TOPIC": "t",
        "BRIDGE_ROCKETMQ__GROUP_ID": "GID_g",
        "BRIDGE_ROCKETMQ__ACCESS_KEY_ID": "a",
        "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET": "b",
        "BRIDGE_KAFKA__BOOTSTRAP_SERVERS": "one:9092, two:9092",
        "BRIDGE_KAFKA__TOPIC": "orders-{tag}",
        "BRIDGE_KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "BRIDGE_KAFKA__SASL_USERNAME": "alice",
        "BRIDGE_KAFKA__SASL_PASSWORD": "very secret",
    }
    settings = load(RunSettings, environ=environ, folder=tmp_path).settings.of_sink("kafka")
    assert isinstance(settings, KafkaSettings)
    assert settings.sasl_username == "alice"
    assert "very secret" not in repr(settings)
    with pytest.raises(FixSettingsError) as mistake:
        load(RunSettings, environ=environ | {"BRIDGE_KAFKA__SASL_USERNAME": "", "BRIDGE_KAFKA__KEY": "x"}, folder=tmp_path)
    assert "very secret" not in str(mistake.value)
