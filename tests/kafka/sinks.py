"""The sink as a test wants it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bridge.sinks.kafka import KafkaSettings, KafkaSink
from bridge.testing.caller import Caller, opened
from kafka.broker import PASSWORD, USER, Broker

PATIENCE_SECONDS = 30.0


def sink_for(broker: Broker, topic: str, **settings: object) -> KafkaSink:
    """A sink for a topic; settings by their names, without BRIDGE_KAFKA__, in lower case, as strings or not."""
    plain: dict[str, object] = {"bootstrap_servers": broker.address(), "topic": topic}
    return KafkaSink(KafkaSettings.model_validate(plain | settings))


@asynccontextmanager
async def open_sink(broker: Broker, topic: str, **settings: object) -> AsyncIterator[Caller]:
    async with opened(sink_for(broker, topic, **settings), PATIENCE_SECONDS) as caller:
        yield caller


def scram(broker: Broker, mechanism: str = "SCRAM-SHA-512") -> dict[str, Any]:
    """The settings for the listener with TLS and SCRAM."""
    return {
        "bootstrap_servers": broker.address("SASL"),
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": mechanism,
        "sasl_username": USER,
        "sasl_password": PASSWORD,
        "ssl_cafile": str(broker.certificates.ca),
    }


def mutual_tls(broker: Broker) -> dict[str, Any]:
    """The settings for the listener that wants a client's certificate."""
    return {
        "bootstrap_servers": broker.address("MUTUAL"),
        "security_protocol": "SSL",
        "ssl_cafile": str(broker.certificates.ca),
        "ssl_certfile": str(broker.certificates.client),
    }
