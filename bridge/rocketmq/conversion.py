"""A message of the service becomes an event (design.md 4)."""

import json
import re
import time
from collections.abc import Callable
from functools import lru_cache
from hashlib import md5
from typing import Literal

import orjson

from bridge.event import BYTES, CLOUDEVENTS, JSON, SPEC_VERSION, TEXT, DataForm, Envelope, Event, Origin
from bridge.rocketmq.damage import Damaged, number
from bridge.rocketmq.message import BORN_HOST, KEYS, SHARDING_KEY, START_DELIVER_TIME, Message

# The attributes that carry a property, where any do. The others go into `mqproperties`, so every property survives.
_ATTRIBUTES_OF_PROPERTY = {
    KEYS: ("subject", "mqkeys"),
    SHARDING_KEY: ("partitionkey",),
    BORN_HOST: ("mqbornhost",),
    "traceparent": ("traceparent",),
    "tracestate": ("tracestate",),
}
_TAG = "TAGS"  # what RocketMQ itself calls the tag among the properties; used where the attribute can't carry it

# CloudEvents 1.0, type system, String: what a value must not hold (control characters, surrogates, noncharacters).
_NOT_IN_ATTRIBUTES = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)
_MAX_INTEGER = 2**31 - 1  # CloudEvents 1.0, type system, Integer
_JSON_START = frozenset("{[ \t\r\n")


class Conversion:
    """Makes events of messages; what is the same for all of them is worked out once, here.

    `data` says how bodies are carried: `auto` as JSON where they are a JSON object or array and as text otherwise, `text`, or
    `base64`. With `strict_md5`, a body whose MD5 differs from the service's is damage; without, it is delivered and marked, and
    `on_mismatch` is told its message id.
    """

    def __init__(
        self,
        *,
        origin: Origin,
        source: str,
        type_: str,
        envelope: Envelope = CLOUDEVENTS,
        data: Literal["auto", "text", "base64"] = "auto",
        strict_md5: bool = False,
        on_mismatch: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._fixed: dict[str, dict[str, str | int]] = {
            content_type: {
                "specversion": SPEC_VERSION,
                "source": source,
                "type": type_,
                "datacontenttype": content_type,
                "mqgroup": origin.group,
            }
            for content_type in (JSON, TEXT, BYTES)
        }
        self._origin = origin
        self._envelope = envelope
        self._data = data
        self._strict_md5 = strict_md5
        self._on_mismatch = on_mismatch

    def event(self, message: Message) -> Event:
        """The event of one delivery. Raises ValueError, with the reason, for a message that can't be carried at all."""
        if not message.message_id or not _fits(message.message_id):
            raise ValueError("its MessageId holds characters that no event can carry")
        form, content_type, data = self._form(message.body)
        matches = message.body_md5 is None or md5(data, usedforsecurity=False).hexdigest() == message.body_md5.lower()
        if self._strict_md5 and not matches:
            raise ValueError("the MD5 of its body is not the one that the service sent (BRIDGE_EVENT__STRICT_MD5)")
        attributes = self._fixed[content_type].copy()
        if (published := rfc3339(message.publish_time)) is not None:
            attributes["time"] = published
        attributes["mqconsumedtimes"] = min(message.consumed_times, _MAX_INTEGER)
        if (first := rfc3339(message.first_consume_time)) is not None:
            attributes["mqfirstconsumetime"] = first
        if not matches:
            attributes["mqbodymd5"] = "mismatch"
            self._on_mismatch(message.message_id)
        if message.properties or message.tag:
            _add_properties(attributes, message)
        return Event(
            id=message.message_id,
            attributes=attributes,
            body=data if content_type is BYTES else message.body,
            size=len(data),
            form=form,
            properties=message.properties,
            origin=self._origin,
            envelope=self._envelope,
            tag=message.tag,
        )

    def damaged(self, damaged: Damaged) -> Event:
        """The event of a message that can't be read: its original bytes, and what of its identity could be recovered."""
        attributes = self._fixed[BYTES].copy()
        if damaged.consumed_times is not None:
            attributes["mqconsumedtimes"] = min(damaged.consumed_times, _MAX_INTEGER)
        id_ = damaged.message_id
        if not id_ or not _fits(id_):
            id_ = f"damaged-{md5(damaged.raw, usedforsecurity=False).hexdigest()}"
        return Event(
            id=id_,
            attributes=attributes,
            body=damaged.raw,
            size=len(damaged.raw),
            form=DataForm.BASE64,
            properties={},
            origin=self._origin,
            envelope=self._envelope,
        )

    def _form(self, body: str) -> tuple[DataForm, str, bytes]:
        try:
            data = body.encode()
        except UnicodeEncodeError:  # half of a surrogate pair: neither UTF-8 nor JSON can carry it as text
            return DataForm.BASE64, BYTES, body.encode(errors="surrogatepass")
        is_json = self._data != "text" and body[:1] in _JSON_START and _is_json(data)
        if self._data == "base64":
            return DataForm.BASE64, JSON if is_json else TEXT, data
        return (DataForm.JSON, JSON, data) if is_json else (DataForm.TEXT, TEXT, data)


def _add_properties(attributes: dict[str, str | int], message: Message) -> None:
    others: dict[str, str] = {}
    if message.tag:
        if _fits(message.tag):
            attributes["mqtag"] = message.tag
        else:
            others[_TAG] = message.tag
    for name, value in message.properties.items():
        names = _ATTRIBUTES_OF_PROPERTY.get(name)
        if names and value and _fits(value):
            for attribute in names:
                attributes[attribute] = value
        elif name == START_DELIVER_TIME and (instant := rfc3339(number(value))) is not None:
            attributes["mqstartdelivertime"] = instant
        else:
            others[name] = value
    if others:
        attributes["mqproperties"] = _json_text(others)


def _json_text(pairs: dict[str, str]) -> str:
    """One JSON object as text that an attribute can hold: what it can't is escaped."""
    try:
        text = orjson.dumps(pairs).decode()
    except orjson.JSONEncodeError:  # half of a surrogate pair
        return json.dumps(pairs, separators=(",", ":"))
    return text if _fits(text) else json.dumps(pairs, separators=(",", ":"))


def _fits(text: str) -> bool:
    """Whether it can be the value of an attribute."""
    return text.isprintable() or not _NOT_IN_ATTRIBUTES.search(text)  # the first says it of most, and ten times as fast


def _is_json(data: bytes) -> bool:
    """Whether it is a JSON object or array; a lone number or string is text that happens to look like JSON."""
    if data.lstrip(b" \t\r\n")[:1] not in (b"{", b"["):
        return False
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True


@lru_cache(maxsize=1024)  # messages of one second share it
def _to_the_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


_YEAR_10000 = 253_402_300_800_000
_FRACTIONS = [f".{milliseconds:03}Z" for milliseconds in range(1000)]  # formatting one takes longer than all the rest


def rfc3339(milliseconds: int | None) -> str | None:
    """Milliseconds since the epoch as `2026-11-22T09:30:00.125Z`; None for None, and beyond the year 9999."""
    if milliseconds is None or not 0 <= milliseconds < _YEAR_10000:
        return None
    return _to_the_second(milliseconds // 1000) + _FRACTIONS[milliseconds % 1000]
