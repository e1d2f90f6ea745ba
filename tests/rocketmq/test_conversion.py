"""A message becomes an event (design.md 4), checked by the CloudEvents project's own parser too."""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import Literal

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.event import BYTES, ENVELOPES, JSON, TEXT, DataForm, Event, Origin
from bridge.rocketmq.conversion import Conversion
from bridge.rocketmq.damage import Damaged
from bridge.rocketmq.message import Message
from rocketmq.documents import expected
from rocketmq.texts import any_text, joined

DataMode = Literal["auto", "text", "base64"]


def conversion(*, data: DataMode = "auto", strict_md5: bool = False) -> Conversion:
    return Conversion(
        source="/rocketmq/MQ_INST_1/topicA",
        type_="com.aliyun.rocketmq.message",
        origin=Origin(topic="topicA", group="GID_a", instance="MQ_INST_1"),
        data=data,
        strict_md5=strict_md5,
    )


def event_of(body: str, *, data: DataMode = "auto") -> Event:
    return conversion(data=data).event(replace(expected(), body=body, body_md5=None))


def test_an_event_says_everything_that_is_known_of_its_message() -> None:
    message = replace(
        expected(),
        consumed_times=3,
        properties={
            "KEYS": "order-7",
            "__SHARDINGKEY": "customer-9",
            "__BORNHOST": "30.5.0.1",
            "__STARTDELIVERTIME": "1571742901000",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "tracestate": "a=b",
            "colour": "blue",
            "__TransCheckT": "30",
        },
    )

    event = conversion().event(message)

    assert event.id == message.message_id
    assert event.attributes == {
        "specversion": "1.0",
        "source": "/rocketmq/MQ_INST_1/topicA",
        "type": "com.aliyun.rocketmq.message",
        "datacontenttype": "text/plain; charset=utf-8",
        "time": "2019-10-22T11:15:00.759Z",
        "subject": "order-7",
        "partitionkey": "customer-9",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate": "a=b",
        "mqgroup": "GID_a",
        "mqconsumedtimes": 3,
        "mqfirstconsumetime": "2019-10-22T11:15:02.463Z",
        "mqstartdelivertime": "2019-10-22T11:15:01.000Z",
        "mqbornhost": "30.5.0.1",
        "mqtag": "Tag",
        "mqkeys": "order-7",
        "mqproperties": '{"colour":"blue","__TransCheckT":"30"}',
    }
    assert event.properties == message.properties
    assert (event.data, event.size) == (b"a", 1)


def test_what_is_not_known_is_not_said() -> None:
    bare = replace(expected(), publish_time=None, first_consume_time=None, body_md5=None, tag=None, properties={})

    assert conversion().event(bare).attributes.keys() == {
        "specversion", "source", "type", "datacontenttype", "mqgroup", "mqconsumedtimes",
    }  # fmt: skip


# ---- data ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        '{"b":1.10,"a":1234567890123456789012345,"c":0.1000000000000000055511151231257827}',
        "[]",
        "[1, 2.50]",
        ' \r\n\t{ "b" : 1 ,\r\n "a" : [ ] }\n ',
        '{"a":1,"a":2}',
        '{"é":"\\u00e9\\ud83d\\ude00\u2028😀"}',
        "[" * 100 + "]" * 100,
    ],
)
def test_a_json_object_or_array_keeps_every_byte(body: str) -> None:
    event = event_of(body)

    assert event.form is DataForm.JSON
    assert event.attributes["datacontenttype"] == JSON
    assert event.structured().endswith(b'"data":' + body.encode() + b"}")
    assert event.data == body.encode()
    assert event.size == len(body.encode())


@pytest.mark.parametrize(
    "body",
    ["", " ", "a", "1.10", '"x"', "null", "true", "{", "{a:1}", "[1,]", "{} {}", '{"a":NaN}', '{"a":"\\ud800"}', "\ufeff{}",
     "\xa0[]", "\x00\x01{}", '"\\\r\n\t\x7f\u2028😀', "[" * 100_000],
    ids=lambda body: ascii(body[:12]),
)  # fmt: skip
def test_what_is_no_json_object_or_array_stays_text(body: str) -> None:
    event = event_of(body)

    assert event.form is DataForm.TEXT
    assert event.attributes["datacontenttype"] == TEXT
    assert json.loads(event.structured())["data"] == body
    assert event.data == body.encode()


@pytest.mark.parametrize(
    ("body", "data", "content_type"),
    [
        ('{"a": 1.10}', "base64", JSON),
        ("a中", "base64", TEXT),
        ("", "base64", TEXT),
        ("half \ud83d", "auto", BYTES),  # neither UTF-8 nor JSON text can carry it
        ("half \ud83d", "text", BYTES),
        ('{"a":"\ud83d"}', "base64", BYTES),
    ],
)
def test_base64_carries_what_was_asked_for_or_cannot_be_text(body: str, data: DataMode, content_type: str) -> None:
    event = event_of(body, data=data)

    assert event.form is DataForm.BASE64
    assert event.attributes["datacontenttype"] == content_type
    structured = json.loads(event.structured())
    assert "data" not in structured
    assert base64.b64decode(structured["data_base64"], validate=True) == event.data == body.encode(errors="surrogatepass")
    assert event.size == len(event.data)


def test_json_is_text_where_text_was_asked_for() -> None:
    event = event_of('{"a": 1}', data="text")

    assert event.form is DataForm.TEXT
    assert json.loads(event.structured())["data"] == '{"a": 1}'


# ---- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", ["a", '{"a": "中"}', ""])
@pytest.mark.parametrize("data", ["auto", "base64"])
def test_a_body_with_another_md5_is_marked_and_in_strict_mode_refused(body: str, data: DataMode) -> None:
    digest = md5(body.encode(), usedforsecurity=False).hexdigest()
    right = [replace(expected(), body=body, body_md5=value) for value in (digest, digest.upper(), None)]
    wrong = replace(expected(), body=body, body_md5="0" * 32)

    for message in right:
        assert "mqbodymd5" not in conversion(data=data, strict_md5=True).event(message).attributes
    marked = conversion(data=data).event(wrong)
    assert marked.attributes["mqbodymd5"] == "mismatch"
    assert marked.data == body.encode()
    with pytest.raises(ValueError, match="STRICT_MD5"):
        conversion(data=data, strict_md5=True).event(wrong)


def damaged(message_id: str | None, raw: bytes = b"<Message>\xff</Message>") -> Damaged:
    return Damaged(
        reason="its XML is broken",
        raw=raw,
        message_id=message_id,
        receipt_handle="h",
        next_consume_time=None,
        consumed_times=2**40,
    )


def test_a_damaged_message_becomes_an_event_of_its_bytes() -> None:
    event = conversion().damaged(damaged("ID1"))

    assert event.id == "ID1"
    assert event.data == b"<Message>\xff</Message>"
    assert foreign(event).get_data() == b"<Message>\xff</Message>"
    assert_legal(event)


@pytest.mark.parametrize("message_id", [None, "", "a\x01", "\ud83d"])
def test_a_damaged_message_without_an_id_that_events_can_have_is_known_by_its_bytes(message_id: str | None) -> None:
    event = conversion().damaged(damaged(message_id))

    assert foreign(event).get_id() == event.id == conversion().damaged(damaged(message_id)).id
    assert event.id != conversion().damaged(damaged(message_id, raw=b"others")).id
    assert_legal(event)


@pytest.mark.parametrize("message_id", ["", "a\x01", "\ud83d", "a\ufdd0"])
def test_an_id_that_no_event_can_have_is_damage(message_id: str) -> None:
    with pytest.raises(ValueError, match="MessageId"):
        conversion().event(replace(expected(), message_id=message_id))


# ---- any message -----------------------------------------------------------------------------------------------------


def assert_legal(event: Event) -> None:
    """CloudEvents 1.0: names of lower-case letters and digits, at most 20; strings without control characters, surrogates and
    noncharacters; integers of 32 bits; nothing empty."""
    for name, value in {"id": event.id, **event.attributes}.items():
        assert re.fullmatch("[a-z0-9]{1,20}", name)
        if isinstance(value, int):
            assert -(2**31) <= value < 2**31
        else:
            assert value
            assert not [ascii(c) for c in value if ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000]
            assert not [ascii(c) for c in value if 0xFDD0 <= ord(c) < 0xFDF0 or ord(c) & 0xFFFE == 0xFFFE]


def foreign(event: Event) -> CloudEvent:
    """The event as the CloudEvents project's own parser, of another JSON library, understands it."""
    read = JSONFormat().read(None, event.structured())
    assert isinstance(read, CloudEvent)
    return read


def milliseconds(instant: object) -> int:
    assert isinstance(instant, str)
    return (datetime.fromisoformat(instant) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def told(attributes: Mapping[str, object]) -> tuple[str | None, dict[str, str]]:
    """The tag and the properties of the message, from its event's attributes alone."""
    properties: dict[str, str] = json.loads(str(attributes.get("mqproperties", "{}")))
    tag = attributes["mqtag"] if "mqtag" in attributes else properties.pop("TAGS", None)
    assert attributes.get("subject") == attributes.get("mqkeys")
    carried = {
        "KEYS": "mqkeys", "__SHARDINGKEY": "partitionkey", "__BORNHOST": "mqbornhost",
        "traceparent": "traceparent", "tracestate": "tracestate",
    }  # fmt: skip
    properties |= {name: str(attributes[carrier]) for name, carrier in carried.items() if carrier in attributes}
    if "mqstartdelivertime" in attributes:
        properties["__STARTDELIVERTIME"] = str(milliseconds(attributes["mqstartdelivertime"]))
    return None if tag is None else str(tag), properties


TEXTS = any_text(20).map(joined)
VALUES = TEXTS | st.integers(0, 10**18).map(str)
# RocketMQ itself keeps the tag as a property of this name, so a producer can't have another.
NAMES = TEXTS.filter(lambda name: name not in {"", "TAGS"}) | st.sampled_from([
    "KEYS", "__SHARDINGKEY", "__STARTDELIVERTIME", "__BORNHOST", "traceparent", "tracestate", "mqtag", "id", "data",
])  # fmt: skip
INSTANTS = st.none() | st.integers(0, 10**18)
MESSAGES = st.builds(
    Message,
    message_id=st.from_regex("[0-9A-F]{32}", fullmatch=True),
    body=TEXTS | st.recursive(st.none() | st.floats() | st.text(), st.lists).map(json.dumps),
    body_md5=st.none() | st.just("0CC175B9C0F1B6A831C399E269772661"),
    receipt_handle=st.just("h"),
    publish_time=INSTANTS,
    first_consume_time=INSTANTS,
    next_consume_time=st.integers(0, 10**18),
    consumed_times=st.integers(1, 10**18),
    tag=st.none() | TEXTS.filter(bool),
    properties=st.dictionaries(NAMES, VALUES, max_size=6),
)


@settings(max_examples=300)
@given(message=MESSAGES, data=st.sampled_from(["auto", "text", "base64"]))
def test_the_event_of_any_message_is_legal_and_loses_nothing(message: Message, data: DataMode) -> None:
    event = conversion(data=data).event(message)

    assert_legal(event)
    assert event.data == message.body.encode(errors="surrogatepass")
    assert event.properties == message.properties
    tag, properties = told(event.attributes)
    canonical = {
        name: str(int(value)) if name == "__STARTDELIVERTIME" and value.isascii() and value.isdigit() else value
        for name, value in message.properties.items()
    }
    assert (tag, properties) == (message.tag, canonical)

    read = foreign(event)
    assert (read.get_id(), read.get_source(), read.get_type()) == (
        message.message_id,
        "/rocketmq/MQ_INST_1/topicA",
        event.attributes["type"],
    )
    assert read.get_subject() == event.attributes.get("subject")
    assert read.get_datacontenttype() == event.attributes["datacontenttype"]
    if "time" in event.attributes:
        assert read.get_time() == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=message.publish_time or 0)
    if event.form is DataForm.JSON:
        assert read.get_data() == json.loads(message.body)
    elif event.form is DataForm.TEXT:
        assert read.get_data() == message.body
    else:
        assert read.get_data() == event.data
    assert told({**event.attributes, **read.get_attributes()}) == (tag, properties)


def test_the_envelope_body_is_the_body_alone() -> None:
    for body, media_type in (('{"a": 1.10}', JSON), ("text", TEXT), ("", TEXT)):
        event = replace(event_of(body), envelope=ENVELOPES["body"])
        assert (event.structured(), event.media_type) == (body.encode(), media_type)


def test_the_envelope_eventbridge_has_the_shape_that_eventbridge_gives() -> None:
    origin = Origin(topic="topicA", group="GID_a", instance="MQ_INST_1", region="cn-hangzhou", account="123")
    message = replace(
        expected(), body='{"a": 1}', tag="TagA", properties={"KEYS": "k", "colour": "blue", "__BORNHOST": "30.5.0.1"}
    )
    event = replace(conversion().event(message), origin=origin, envelope=ENVELOPES["eventbridge"])

    written = json.loads(event.structured())

    published = event.attributes["time"]
    assert event.media_type == "application/json; charset=utf-8"
    assert written == {
        "id": message.message_id,
        "source": "acs:mq",
        "specversion": "1.0",
        "type": "mq:Topic:SendMessage",
        "datacontenttype": "application/json; charset=utf-8",
        "subject": "acs:mq:cn-hangzhou:123:MQ_INST_1%topicA",
        "time": published,
        "aliyunpublishtime": published,
        "data": {
            "topic": "topicA",
            "systemProperties": {
                "KEYS": "k",
                "__BORNHOST": "30.5.0.1",
                "UNIQ_KEY": message.message_id,
                "TAGS": "TagA",
                "INSTANCE_ID": "MQ_INST_1",
                "MSG_REGION": "cn-hangzhou",
                "CONSUME_START_TIME": message.first_consume_time,
            },
            "userProperties": {"colour": "blue"},
            "body": '{"a": 1}',
        },
    }


def test_header_attributes_are_text_and_leave_the_content_type_to_its_own_header() -> None:
    headers = event_of("x").header_attributes
    assert headers["mqconsumedtimes"] == str(expected().consumed_times)
    assert "datacontenttype" not in headers
    assert headers["id"] == expected().message_id
