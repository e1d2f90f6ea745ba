"""What travels: one message as one event, and the envelopes it can be written in (design.md 4)."""

import json
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Final

import orjson

SPEC_VERSION = "1.0"

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"
"""The values that an event's `datacontenttype` has."""


class DataForm(Enum):
    """How a body stands in the JSON of an event."""

    JSON = "json"
    """As the JSON object or array that it is, its bytes untouched."""
    TEXT = "text"
    """As a JSON string."""
    BASE64 = "base64"
    """As Base64 in `data_base64`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where events come from: the same for all events of one bridge."""

    topic: str
    group: str
    instance: str | None = None
    region: str | None = None
    """Of the service, such as `cn-hangzhou`, and its account; None where the endpoint doesn't say."""
    account: str | None = None


class Envelope(ABC):
    """How an event is written when it is written as a whole."""

    @abstractmethod
    def media_type(self, event: "Event") -> str:
        """The media type of what `write` gives."""

    @abstractmethod
    def write(self, event: "Event") -> bytes:
        """The event as bytes."""


@dataclass(slots=True, kw_only=True)
class Event:
    """One message on its way to the sinks. Nothing in it changes; a redelivery of the same message is another Event.

    (It isn't frozen, as that takes longer than all else about making one: see `bridge.rocketmq.message`.)
    """

    id: str
    """The message id: the same for every delivery of a message, so what a sink deduplicates by."""
    attributes: Mapping[str, str | int]
    """The CloudEvents context attributes but for `id`: `specversion`, `source`, `type`, `datacontenttype` always; `time`,
    `subject`, `partitionkey` and the extensions `mq…` where there is something to say. None is empty."""
    body: str | bytes
    """Text; bytes only where the body isn't text that UTF-8 can carry."""
    size: int
    """Of the body, in bytes of UTF-8."""
    form: DataForm
    properties: Mapping[str, str]
    """All properties of the message by their own names, for sinks whose keys or topics are made of them."""
    origin: Origin
    envelope: Envelope
    tag: str | None = None
    trace_headers: tuple[tuple[str, str], ...] = ()
    """While the bridge traces: the headers `traceparent` and `tracestate` for whoever is sent this event, where its protocol
    has headers. The attributes of these names are the publisher's, and stay so."""

    @property
    def data(self) -> bytes:
        """The body alone, as bytes: what binary content mode carries, under `datacontenttype`."""
        return self.body.encode() if isinstance(self.body, str) else self.body

    @property
    def header_attributes(self) -> dict[str, str]:
        """The attributes as binary content mode puts them into headers: as text, and without `datacontenttype`."""
        attributes = {name: str(value) for name, value in self.attributes.items() if name != "datacontenttype"}
        return {"id": self.id, **attributes}

    @property
    def media_type(self) -> str:
        """The media type of `structured`."""
        return self.envelope.media_type(self)

    def structured(self) -> bytes:
        """The event as a whole, in its envelope: for CloudEvents, one JSON object.

        A JSON body keeps its own line breaks; whoever writes one event a line turns CR and LF into spaces, which in valid JSON
        stand only between tokens. Only the envelope `body` can give what is no JSON, as `media_type` tells.
        """
        return self.envelope.write(self)


class _CloudEvents(Envelope):
    """CloudEvents 1.0, JSON format."""

    def media_type(self, event: Event) -> str:  # noqa: ARG002 - it is the same for every event
        return "application/cloudevents+json"

    def write(self, event: Event) -> bytes:
        if event.form is DataForm.JSON:
            return orjson.dumps({"id": event.id, **event.attributes, "data": orjson.Fragment(event.body)})
        if event.form is DataForm.TEXT:
            return orjson.dumps({"id": event.id, **event.attributes, "data": event.body})
        return orjson.dumps({"id": event.id, **event.attributes, "data_base64": b64encode(event.data).decode()})


class _Body(Envelope):
    """The body alone."""

    def media_type(self, event: Event) -> str:
        return str(event.attributes["datacontenttype"])

    def write(self, event: Event) -> bytes:
        return event.data


class _EventBridge(Envelope):
    """The shape that Alibaba Cloud EventBridge gives to RocketMQ events, for people who move from it."""

    def media_type(self, event: Event) -> str:  # noqa: ARG002 - as above
        return _EVENTBRIDGE_TYPE

    def write(self, event: Event) -> bytes:
        origin, attributes = event.origin, event.attributes
        place = f"{origin.instance}%{origin.topic}" if origin.instance else origin.topic
        written: dict[str, object] = {
            "id": event.id,
            "source": "acs:mq",
            "specversion": SPEC_VERSION,
            "type": "mq:Topic:SendMessage",
            "datacontenttype": _EVENTBRIDGE_TYPE,
            "subject": f"acs:mq:{origin.region or ''}:{origin.account or ''}:{place}",
            "data": {
                "topic": origin.topic,
                "systemProperties": self._system_properties(event),
                "userProperties": {n: v for n, v in event.properties.items() if n != "KEYS" and not n.startswith("__")},
                "body": event.body if isinstance(event.body, str) else b64encode(event.body).decode(),
            },
        }
        if "time" in attributes:
            written["time"] = written["aliyunpublishtime"] = attributes["time"]
        try:
            return orjson.dumps(written)
        except orjson.JSONEncodeError:  # half of a surrogate pair in a tag or property, which strict readers refuse in any form
            return json.dumps(written, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")

    def _system_properties(self, event: Event) -> dict[str, str | int]:
        origin = event.origin
        system = {name: value for name, value in event.properties.items() if name == "KEYS" or name.startswith("__")}
        others = {"UNIQ_KEY": event.id, "TAGS": event.tag, "INSTANCE_ID": origin.instance, "MSG_REGION": origin.region}
        properties: dict[str, str | int] = {**system, **{name: value for name, value in others.items() if value}}
        if consumed := event.attributes.get("mqfirstconsumetime"):
            properties["CONSUME_START_TIME"] = round(datetime.fromisoformat(str(consumed)).timestamp() * 1000)
        return properties


_EVENTBRIDGE_TYPE = "application/json; charset=utf-8"

CLOUDEVENTS: Final = _CloudEvents()
ENVELOPES: Final[Mapping[str, Envelope]] = {"cloudevents": CLOUDEVENTS, "body": _Body(), "eventbridge": _EventBridge()}
"""By their names in `BRIDGE_EVENT__ENVELOPE`."""
