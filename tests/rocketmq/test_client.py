"""The client and a service that behaves, or has trouble of its own; point 39 of protocol.md 10."""

import asyncio

import pytest

from bridge.emulator.server import Emulator
from bridge.errors import BrokenAnswerError, FixSettingsError, ThrottledError, TryAgainError
from bridge.rocketmq.client import Client, Patience
from bridge.rocketmq.codec import Subscription
from bridge.rocketmq.credentials import Credentials
from rocketmq.calls import CALLS, IDLE, SUBSCRIPTION, Call, ack, failure_of, poll, publish, until
from rocketmq.documents import batch, element, expected
from rocketmq.servers import CREDENTIALS, Line, answering, client_of, http, serving


async def test_what_is_published_is_polled_and_once_acked_is_gone(emulator: Emulator, client: Client) -> None:
    published = await client.publish(
        "topicA", instance="MQ_INST_1", body="<a> & 中 \r\n", tag="TagA", properties={"KEYS": "k", "n": "v"}
    )

    (message,) = await poll(client)

    assert (message.message_id, message.body_md5) == (published.message_id, published.body_md5)
    assert (message.body, message.tag, message.properties) == ("<a> & 中 \r\n", "TagA", {"KEYS": "k", "n": "v"})
    assert await client.ack(SUBSCRIPTION, [message.receipt_handle]) == ()
    assert await poll(client) == []
    assert emulator.broker.book(emulator.now(), "topicA", "GID_a", instance="MQ_INST_1").acked == 1


async def test_a_second_ack_is_refused_for_that_handle_alone(client: Client) -> None:
    for _ in range(2):
        await publish(client)
    first, second = await poll(client, max_messages=2)
    assert await client.ack(SUBSCRIPTION, [first.receipt_handle]) == ()

    failures = await client.ack(SUBSCRIPTION, [first.receipt_handle, second.receipt_handle])

    assert [(failure.receipt_handle, failure.code) for failure in failures] == [(first.receipt_handle, "MessageNotExist")]


async def test_a_long_poll_brings_what_is_published_while_it_waits(emulator: Emulator, client: Client) -> None:
    polling = asyncio.create_task(poll(client, wait_seconds=20))
    await until(lambda: emulator.open_polls("MQ_INST_1") == 1)

    await publish(client)

    assert len(await polling) == 1


async def test_a_long_poll_is_not_taken_for_silence(emulator: Emulator) -> None:
    async with client_of(emulator.url, patience=Patience(silence=0.9)) as client:
        polled = await client.poll(SUBSCRIPTION, max_messages=1, wait_seconds=1)

    assert polled.messages == ()
    assert polled.received_at - polled.sent_at >= 0.9
    assert Patience().silence >= 3  # protocol.md 10, point 39


async def test_many_calls_share_one_connection() -> None:
    async with answering(IDLE, IDLE, http(204), http(502, b"<html>"), IDLE) as server, client_of(server.url) as client:
        await poll(client)
        await poll(client)
        await ack(client)
        await failure_of(poll(client))
        await poll(client)

    assert len(server.requests) == 5
    assert server.connections == 1


async def test_a_request_is_sent_as_it_was_signed() -> None:
    subscription = Subscription(topic="topicA", group="GID_a", tag="TagA||TagB *~")

    async with answering(IDLE) as server, client_of(server.url) as client:
        await client.poll(subscription, max_messages=16, wait_seconds=30)

    (request,) = server.requests
    assert request.startswith(f"GET {subscription.poll(16, 30).target} HTTP/1.1\r\n".encode())
    assert b"%2A~" in request
    assert b"\r\nAccept-Encoding: identity\r\n" in request  # an answer is read to a bound, so it must not unfold


async def test_a_security_token_goes_along_and_a_key_that_changes_is_used_at_once() -> None:
    keys = [
        Credentials(access_key_id="OLD", access_key_secret="SECRET", security_token="token-1"),
        Credentials(access_key_id="NEW", access_key_secret="SECRET"),
    ]

    async with answering(IDLE) as server, Client(server.url, lambda: keys.pop(0), max_connections=1) as client:
        await poll(client)
        await poll(client)

    first, second = server.requests
    assert b"\r\nsecurity-token: token-1\r\n" in first
    assert b"\r\nAuthorization: MQ OLD:" in first
    assert b"security-token" not in second
    assert b"\r\nAuthorization: MQ NEW:" in second


async def test_an_answer_that_ends_with_its_connection_is_whole() -> None:
    async def old_fashioned(line: Line) -> None:
        await line.request()
        await line.send(b"HTTP/1.0 200 OK\r\n\r\n" + batch(element()))

    async with serving(old_fashioned) as server, client_of(server.url) as client:
        assert await poll(client) == [expected()]


@CALLS
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("internal_error", TryAgainError),
        ("bad_gateway", TryAgainError),
        ("unavailable", TryAgainError),
        ("throttled", ThrottledError),
        ("cut_before", TryAgainError),
        ("cut_after", TryAgainError),
        ("key_withdrawn", FixSettingsError),
    ],
)
async def test_point_39_trouble_is_classed_and_over_when_it_is_over(
    emulator: Emulator, client: Client, call: Call, fault: str, kind: type[Exception]
) -> None:
    setattr(emulator.faults, fault, 1)

    problem = await failure_of(call(client))

    assert type(problem) is kind
    assert getattr(problem, "answer_lost", False) is fault.startswith("cut")
    setattr(emulator.faults, fault, 0)
    await poll(client, max_messages=16)


@pytest.mark.parametrize(
    ("fault", "kind", "lost"),
    [
        ("empty_ok", BrokenAnswerError, False),
        ("no_messages_ok", BrokenAnswerError, False),
        ("endless", BrokenAnswerError, True),
        ("consume_denied", FixSettingsError, False),
    ],
)
async def test_point_39_a_poll_that_is_answered_with_nonsense_is_classed(
    emulator: Emulator, client: Client, *, fault: str, kind: type[Exception], lost: bool
) -> None:
    setattr(emulator.faults, fault, 1)

    problem = await failure_of(poll(client))

    assert type(problem) is kind
    assert getattr(problem, "answer_lost", False) is lost


async def test_an_ack_whose_answer_was_lost_may_have_had_its_effect(emulator: Emulator, client: Client) -> None:
    await publish(client)
    (message,) = await poll(client)
    emulator.faults.ack_answer_lost = 1

    problem = await failure_of(client.ack(SUBSCRIPTION, [message.receipt_handle]))

    assert isinstance(problem, TryAgainError)
    assert problem.answer_lost
    emulator.faults.ack_answer_lost = 0
    (failure,) = await client.ack(SUBSCRIPTION, [message.receipt_handle])
    assert failure.code == "MessageNotExist"


async def test_an_ack_that_is_stuck_leaves_every_handle_unresolved() -> None:
    now = [1_800_000_000.0]
    async with (
        Emulator(clock=lambda: now[0]) as emulator,
        Client(emulator.url, lambda: CREDENTIALS, max_connections=1, wall_clock=lambda: now[0]) as client,
    ):
        emulator.faults.ack_stuck = True
        await publish(client)
        await poll(client)
        now[0] += 301
        await publish(client)
        handles = [message.receipt_handle for message in await poll(client, max_messages=16)]
        assert len(handles) == 2

        failures = await client.ack(SUBSCRIPTION, handles)

    assert [(failure.receipt_handle, failure.code) for failure in failures] == [(h, "ReceiptHandleError") for h in handles]


@CALLS
@pytest.mark.parametrize(
    ("key_id", "secret", "code"), [("AKID", "hidden", "SignatureDoesNotMatch"), ("WRONG", "hidden", "InvalidAccessKeyId")]
)
async def test_a_wrong_key_is_a_matter_of_settings(emulator: Emulator, call: Call, key_id: str, secret: str, code: str) -> None:
    credentials = Credentials(access_key_id=key_id, access_key_secret=secret, security_token="hidden")
    async with Client(emulator.url, lambda: credentials, max_connections=1) as client:
        problem = await failure_of(call(client))

    assert isinstance(problem, FixSettingsError)
    assert problem.code == code
    assert "ACCESS_KEY_SECRET" in str(problem)
    assert "hidden" not in str(problem)
