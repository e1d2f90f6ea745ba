"""Any message becomes an event that every envelope can write, and that others can read; or is damage."""

import json
import re
from dataclasses import replace
from itertools import product
from typing import Literal, get_args

import orjson
from cloudevents.core.formats.json import JSONFormat

from bridge.emulator.errors import ServiceError
from bridge.emulator.properties import check_properties
from bridge.emulator.wire import write_message, write_messages
from bridge.event import ENVELOPES, DataForm, Event, Origin
from bridge.rocketmq.codec import read_poll
from bridge.rocketmq.conversion import Conversion
from bridge.rocketmq.damage import Damaged
from bridge.rocketmq.message import Message
from rocketmq.documents import expected

DataMode = Literal["auto", "text", "base64"]
SEPARATOR = b"\x1f"
"""Between the fields of a message: body, tag, properties (each `name=value`, at the end), id, publish time."""
TOKENS = [
    *(b"\x1f", b"=", b"KEYS=", b"__SHARDINGKEY=", b"__BORNHOST=", b"__STARTDELIVERTIME=", b"traceparent=", b"tracestate="),
    *(b"{}", b"[]", b'{"a":', b"1e999", b"-0.0", b"9" * 20, b'"\\ud800"', b"\xed\xa0\xbd", b"\xed\xb8\x80", b"\xef\xb7\x90"),
    *(b"\x00", b"\x7f", b"\xc2\x85", b"\xe2\x80\xa8", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf", b"\xff", b"253402300800000"),
]
_ORIGIN = Origin(topic="topicA", group="GID_a", instance="MQ_INST_1", region="cn-hangzhou", account="1")
_CONVERSIONS = [
    Conversion(origin=_ORIGIN, source="/rocketmq/MQ_INST_1/topicA", type_="t", data=data, strict_md5=strict)
    for data, strict in product(get_args(DataMode), (False, True))
]


def message_of(fields: bytes) -> Message:
    """A message with any texts."""
    body, tag, id_, published, *properties = [*(_text(field) for field in fields.split(SEPARATOR)), "", "", "", ""][:100]
    pairs = [pair.partition("=") for pair in properties if pair]
    return replace(
        expected(),
        message_id=id_ or "ID",
        body=body,
        tag=tag or None,
        publish_time=int(published[:18]) if published.isascii() and published.isdigit() else None,
        properties={name: value for name, equals, value in pairs if name and equals},
    )


def _text(field: bytes) -> str:
    try:
        return field.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return field.decode("utf-8", "surrogateescape")


def event(fields: bytes) -> None:
    """A message as event, in every way there is."""
    message = message_of(fields)
    for conversion in _CONVERSIONS:
        try:
            made = conversion.event(message)
        except ValueError as problem:
            damaged = Damaged(
                reason=str(problem),
                raw=fields,
                message_id=message.message_id,
                receipt_handle="h",
                next_consume_time=0,
                consumed_times=1,
            )
            _is_readable(conversion.damaged(damaged), fields)
        else:
            _is_readable(made, message.body.encode(errors="surrogatepass"))


def _is_readable(event: Event, body: bytes) -> None:
    assert event.data == body
    assert event.size == len(body)
    for value in event.header_attributes.values():
        assert value
        assert not any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in value)
        assert value.encode()  # no half of a surrogate pair
    assert replace(event, envelope=ENVELOPES["body"]).structured() == body
    for envelope in ("cloudevents", "eventbridge"):
        assert orjson.loads(replace(event, envelope=ENVELOPES[envelope]).structured())["id"] == event.id
    if event.form is DataForm.JSON and _BEYOND_PYTHON.search(body):
        return
    read = JSONFormat().read(None, event.structured())
    assert (read.get_id(), read.get_source()) == (event.id, event.attributes["source"])
    if event.form is DataForm.JSON:
        assert read.get_data() == json.loads(body)
    elif event.form is DataForm.TEXT:
        assert read.get_data() == event.body
    else:
        assert read.get_data() == body


# Legal JSON that Python's own parser, which the CloudEvents SDK uses, refuses: long integers, and deep nesting.
_BEYOND_PYTHON = re.compile(rb"[0-9]{4300}|(?:[\[{][^\[{]*){500}")


def roundtrip(fields: bytes) -> None:
    """A message that the emulator writes and the codec reads: two ways of doing it, which must agree."""
    legal = fields.decode("utf-8", "replace").encode()  # the emulator never gets half of a surrogate pair
    message = replace(message_of(legal), message_id=expected().message_id)
    try:
        check_properties(message.properties)
    except ServiceError:
        message = replace(message, properties={})
    assert read_poll(200, write_messages([write_message(message)])) == (message,)
