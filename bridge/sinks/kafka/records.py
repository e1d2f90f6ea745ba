"""An event as a record: the CloudEvents Kafka binding, the record's key, and its topic."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from bridge.event import Event
from bridge.sinks import Refused
from bridge.sinks.sending import Pending, Sending

_PLACES = re.compile(r"\{(topic|tag|property:[^{}]+)\}")
_LEGAL_TOPIC = re.compile(r"(?!\.{1,2}$)[a-zA-Z0-9._-]{1,249}")
_SHARDING_KEY, _MESSAGE_KEY = "__SHARDINGKEY", "KEYS"  # what RocketMQ calls them among the properties


def is_template(topic: str) -> bool:
    """Whether it has places that messages fill in."""
    return _PLACES.search(topic) is not None


def is_topic_or_template(text: str) -> bool:
    """Whether a topic can be called so, when the places are filled in."""
    return _LEGAL_TOPIC.fullmatch(_PLACES.sub("x", text)) is not None


@dataclass(slots=True, eq=False, kw_only=True)
class Record(Pending):
    """One event, as Kafka will have it."""

    topic: str
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]
    size: int
    """In bytes: the most that it takes as a batch of its own, uncompressed."""


class RecordWriter:
    """Writes events as records. `topic` may be a template; `key` and `mode` are what the settings of those names say."""

    def __init__(self, *, topic: str, key: str, mode: str) -> None:
        self._topic = topic
        self._is_template = is_template(topic)
        self._is_structured = mode == "structured"
        self._key_of = _KEYS.get(key) or _property(key.removeprefix("property:"))

    def keep_order(self) -> None:
        """The key is the sharding key from now on, and never none: what has no sharding key stays together too."""
        self._key_of = lambda event: event.properties.get(_SHARDING_KEY, "")

    def write(self, event: Event, sending: Sending) -> Record | None:
        """The record, as a part of `sending`; None for an event that is refused, as the template finds no topic for it."""
        topic = self._topic_of(event) if self._is_template else self._topic
        if isinstance(topic, Refused):
            Pending(sending=sending).settle(topic)
            return None
        if self._is_structured:
            value = event.structured()
            headers = [("content-type", event.media_type.encode()), ("ce_id", event.id.encode())]
        else:
            value = event.data
            headers = [("content-type", str(event.attributes["datacontenttype"]).encode())]
            headers += [(f"ce_{name}", text.encode()) for name, text in event.header_attributes.items()]
        if event.trace_headers:
            headers += [(name, text.encode()) for name, text in event.trace_headers]
        text = self._key_of(event)
        # What is no text in UTF-8 (half of a surrogate pair) still is a key.
        key = None if text is None else text.encode(errors="surrogatepass")
        size = DefaultRecordBatchBuilder.estimate_size_in_bytes(key, value, headers)
        return Record(sending=sending, topic=topic, key=key, value=value, headers=headers, size=size)

    def _topic_of(self, event: Event) -> str | Refused:
        values = {place: _value(event, place) or "" for place in _PLACES.findall(self._topic)}
        if absent := [place for place, value in values.items() if not value]:
            return Refused(f"it has no {absent[0]}, which TOPIC {self._topic!r} needs")
        name = _PLACES.sub(lambda found: values[found[1]], self._topic)
        return name if _LEGAL_TOPIC.fullmatch(name) else Refused(f"no Kafka topic can be called {name!r}")


def _value(event: Event, place: str) -> str | None:
    """What stands in an event at a place of a template."""
    match place:
        case "topic":
            return event.origin.topic
        case "tag":
            return event.tag
    return event.properties.get(place.removeprefix("property:"))


def _property(name: str) -> Callable[[Event], str | None]:
    return lambda event: event.properties.get(name) or None


_KEYS: dict[str, Callable[[Event], str | None]] = {
    "auto": lambda event: event.properties.get(_SHARDING_KEY) or event.properties.get(_MESSAGE_KEY) or None,
    "sharding": _property(_SHARDING_KEY),
    "id": lambda event: event.id,
    "none": lambda _: None,
}
