"""Signatures, verified by the Standard Webhooks project's own library."""

import time
from base64 import b64encode

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError, hmac_data

from bridge.event import Event
from bridge.sinks import CONFIRMED, Again
from bridge.testing import make_event
from webhook.receiver import SECRET, Received, Receiver, answers, opened, send

OTHER = "whsec_" + b64encode(b"another secret of 32 bytes length").decode()
UNKNOWN = "whsec_" + b64encode(b"a secret that nobody has told us").decode()


def verify(request: Received, secret: str = SECRET) -> None:
    Webhook(secret).verify(request.body, dict(request.headers), json_parse=False)


@pytest.mark.parametrize("mode", ["structured", "binary", "batch"])
async def test_a_receiver_can_verify_and_notices_a_change(receiver: Receiver, mode: str) -> None:
    async with opened(receiver.url, mode=mode, signing_secret=SECRET) as sink:
        await send(sink, make_event("茶"))
    verify(receiver.last)
    with pytest.raises(WebhookVerificationError):
        verify(receiver.last, UNKNOWN)
    forged = Received("POST", "/", receiver.last.headers, receiver.last.body + b" ")
    with pytest.raises(WebhookVerificationError):
        verify(forged)


async def test_each_attempt_is_signed_anew_under_the_same_id(receiver: Receiver) -> None:
    now = time.time()
    clock = iter([now - 100, now, now, now, now])
    receiver.answer = answers(503)
    event = make_event()
    async with opened(receiver.url, signing_secret=SECRET, wall_clock=lambda: next(clock)) as sink:
        (outcome,) = await send(sink, event)
        assert isinstance(outcome, Again)
        receiver.answer = answers(200)
        assert await send(sink, event) == [CONFIRMED]
    for request in receiver.requests:
        verify(request)
    first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == event.id
    assert [first.headers["webhook-timestamp"], second.headers["webhook-timestamp"]] == [str(int(now - 100)), str(int(now))]
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]


@pytest.mark.parametrize("separator", [" ", ",", " , ", "\n"])
async def test_while_secrets_rotate_a_receiver_with_any_of_them_can_verify(receiver: Receiver, separator: str) -> None:
    async with opened(receiver.url, signing_secret=f"{SECRET}{separator}{OTHER}") as sink:
        await send(sink, make_event())
    verify(receiver.last, SECRET)
    verify(receiver.last, OTHER)
    with pytest.raises(WebhookVerificationError):
        verify(receiver.last, UNKNOWN)


async def test_a_body_that_is_no_text_is_signed_as_the_bytes_it_is(receiver: Receiver) -> None:
    """The library verifies text only, so its HMAC is fed by hand, as the specification says: id, timestamp, body, and dots."""
    event: Event = make_event("half of a pair: \ud83c")
    async with opened(receiver.url, mode="binary", signing_secret=SECRET) as sink:
        await send(sink, event)
    headers = receiver.last.headers
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + event.data
    assert headers["webhook-signature"] == f"v1,{b64encode(hmac_data(Webhook(SECRET)._whsecret, signed)).decode()}"
