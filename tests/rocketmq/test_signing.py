"""Signatures: the vectors of protocol.md 1.2, and a counterpart that checks them for itself."""

import pytest

from bridge.emulator.server import Emulator
from bridge.rocketmq.client import Client
from bridge.rocketmq.codec import Subscription
from bridge.rocketmq.credentials import Credentials
from bridge.rocketmq.signing import authorization, signature, string_to_sign

DATE = "Sat, 21 Nov 2026 19:22:54 GMT"


@pytest.mark.parametrize(
    ("method", "content_type", "target", "expected"),
    [
        (
            "GET",
            "",
            "/topics/topicA/messages?consumer=GID_a&numOfMessages=3&ns=MQ_INST_1&waitseconds=5&tag=TagA%7C%7CTagB%20%2A~",
            "VA6ONQaYyq4igt6moIHEqeMItoY=",
        ),
        ("POST", "text/xml;charset=UTF-8", "/topics/topicA/messages?ns=MQ_INST_1", "E1uNOn5IT3iQ9fQ3NF+4Nz8Efag="),
    ],
)
def test_a_signature_is_the_one_that_the_official_sdk_makes(method: str, content_type: str, target: str, expected: str) -> None:
    text = string_to_sign(method=method, content_type=content_type, date=DATE, target=target)

    assert signature("SECRET", text) == expected
    assert authorization("AKID", "SECRET", text) == f"MQ AKID:{expected}"


@pytest.mark.parametrize("token", [None, "CAIS+a/token=="])
async def test_every_call_is_signed_so_that_the_service_takes_it(token: str | None) -> None:
    credentials = Credentials(access_key_id="AKID", access_key_secret="SECRET", security_token=token)
    subscription = Subscription(topic="topicA", group="GID_a", instance="MQ_INST_1", tag="TagA||Tag *~/B")

    async with Emulator() as emulator, Client(emulator.url, lambda: credentials, max_connections=1) as client:
        await client.publish("topicA", body="a", instance="MQ_INST_1", tag="Tag *~/B")
        polled = await client.poll(subscription, max_messages=16, wait_seconds=0)
        failures = await client.ack(subscription, [str(message.receipt_handle) for message in polled.messages])

    assert len(polled.messages) == 1
    assert failures == ()


def test_credentials_show_no_secret() -> None:
    shown = repr(Credentials(access_key_id="AKID", access_key_secret="hidden-secret", security_token="hidden-token"))

    assert "AKID" in shown
    assert "hidden" not in shown
