"""What arrives, read by the CloudEvents project's own parser."""

import json
from collections.abc import Sequence

import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.http import HTTPMessage, from_binary_event, from_structured_event
from cloudevents.core.formats.json import JSONFormat

from bridge import __version__
from bridge.event import ENVELOPES, Event
from bridge.sinks import CONFIRMED
from bridge.testing import make_event
from webhook.receiver import Received, Receiver, opened, send

MEBIBYTE = 1024 * 1024
BODIES = ['{"n": 1}', "text with\r\nline breaks, \x85 and 茶 🍵", ""]
PROPERTIES = {"KEYS": "key 1 %41", "city": 'Zürich "a" 50% off\r\nX-Injected: yes'}


def message(request: Received) -> HTTPMessage:
    return HTTPMessage(headers=dict(request.headers), body=request.body)


def check(parsed: BaseCloudEvent, event: Event) -> None:
    assert parsed.get_id() == event.id
    assert parsed.get_source() == "/rocketmq/orders"
    assert parsed.get_type() == "com.aliyun.rocketmq.message"
    assert parsed.get_extension("mqgroup") == "GID_orders"
    assert parsed.get_subject() == event.attributes.get("subject")
    assert parsed.get_extension("mqproperties") == event.attributes.get("mqproperties")
    assert parsed.get_datacontenttype() == event.attributes["datacontenttype"]


@pytest.mark.parametrize("body", BODIES)
async def test_structured_mode_carries_the_whole_event_as_the_body(receiver: Receiver, body: str) -> None:
    event = make_event(body, properties=PROPERTIES)
    async with opened(receiver.url) as sink:
        assert await send(sink, event) == [CONFIRMED]
    assert receiver.last.method == "POST"
    assert receiver.last.headers["content-type"] == "application/cloudevents+json"
    parsed = from_structured_event(message(receiver.last))
    check(parsed, event)
    assert parsed.get_data() == (json.loads(body) if body.startswith("{") else body)


@pytest.mark.parametrize("body", BODIES)
async def test_binary_mode_carries_attributes_as_headers_and_the_body_alone(receiver: Receiver, body: str) -> None:
    event = make_event(body, properties=PROPERTIES)
    async with opened(receiver.url, mode="binary") as sink:
        assert await send(sink, event) == [CONFIRMED]
    parsed = from_binary_event(message(receiver.last))
    check(parsed, event)
    assert receiver.last.body == body.encode()
    assert "x-injected" not in receiver.last.headers


async def test_binary_mode_carries_what_is_no_text_byte_for_byte(receiver: Receiver) -> None:
    event = make_event("half of a pair: \ud83c")
    async with opened(receiver.url, mode="binary", signing_secret="whsec_c2VjcmV0") as sink:
        assert await send(sink, event) == [CONFIRMED]
    assert receiver.last.body == event.data == b"half of a pair: \xed\xa0\xbc"
    assert receiver.last.headers["content-type"] == "application/octet-stream"


async def test_batch_mode_carries_several_events_as_one_array_of_so_many_at_most(receiver: Receiver) -> None:
    events = [make_event(f"{number}") for number in range(7)]
    async with opened(receiver.url, mode="batch", batch_max=3) as sink:
        assert await send(sink, *events) == [CONFIRMED] * 7
    assert {request.headers["content-type"] for request in receiver.requests} == {"application/cloudevents-batch+json"}
    arrays = sorted((json.loads(request.body) for request in receiver.requests), key=lambda array: int(array[0]["data"]))
    assert [len(array) for array in arrays] == [3, 3, 1]
    parsed = [JSONFormat().read(None, json.dumps(element)) for array in arrays for element in array]
    for one, event in zip(parsed, events, strict=True):
        check(one, event)


async def test_a_batch_has_an_id_of_its_own_made_of_its_members(receiver: Receiver) -> None:
    first, second, third = (make_event() for _ in range(3))
    async with opened(receiver.url, mode="batch") as sink:
        for events in ([first, second], [first, second], [second, first], [first, third], [first]):
            assert await send(sink, *events) == [CONFIRMED] * len(events)
    ids = receiver.ids
    assert ids[0] == ids[1]
    assert len({*ids}) == 4
    assert not {first.id, second.id, third.id} & {*ids}
    assert [request.headers["idempotency-key"] for request in receiver.requests] == ids


@pytest.mark.parametrize("mode", ["structured", "binary"])
async def test_the_webhook_id_and_the_idempotency_key_are_the_events_id(receiver: Receiver, mode: str) -> None:
    event = make_event()
    async with opened(receiver.url, mode=mode) as sink:
        await send(sink, event)
        await send(sink, event)
    assert receiver.ids == [event.id] * 2
    assert [request.headers["idempotency-key"] for request in receiver.requests] == [event.id] * 2


async def test_a_request_says_who_sends_it_and_what_else_is_asked(receiver: Receiver) -> None:
    async with opened(receiver.url + "?code=a%2Fb%3D", headers='{"X-Api-Key": "k, v", "Accept": "*/*"}') as sink:
        await send(sink, make_event())
    assert receiver.last.path == "/hook?code=a%2Fb%3D"  # as it was given, and not rewritten
    assert receiver.last.headers["user-agent"] == f"rocketmq-bridge/{__version__}"
    assert receiver.last.headers["x-api-key"] == "k, v"
    assert "authorization" not in receiver.last.headers
    assert "webhook-signature" not in receiver.last.headers


def bodies(receiver: Receiver) -> Sequence[tuple[str, bytes]]:
    return sorted((request.headers["content-type"], request.body) for request in receiver.requests)


async def test_other_envelopes_go_out_as_they_are_and_what_is_no_json_is_in_no_batch(receiver: Receiver) -> None:
    body, eventbridge = ENVELOPES["body"], ENVELOPES["eventbridge"]
    texts = [make_event(text, envelope=body) for text in ("{}", "[1]", "plain", "plain too")]
    others = [make_event(text, envelope=eventbridge) for text in ("a", "b")]
    async with opened(receiver.url, mode="batch") as sink:
        assert await send(sink, *texts, *others) == [CONFIRMED] * 6
    array = b"[" + b",".join(event.structured() for event in others) + b"]"
    assert bodies(receiver) == [
        ("application/json", b"[{},[1]]"),
        ("application/json; charset=utf-8", array),
        ("text/plain; charset=utf-8", b"plain"),
        ("text/plain; charset=utf-8", b"plain too"),
    ]


async def test_4_mb_are_sent_whole(receiver: Receiver) -> None:
    event = make_event("x" * 4 * MEBIBYTE)
    async with opened(receiver.url, mode="binary") as sink:
        assert await send(sink, event) == [CONFIRMED]
    assert len(receiver.last.body) == 4 * MEBIBYTE
