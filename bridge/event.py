"""What travels: one message as one CloudEvent, and the forms it can be written in (design.md 4)."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import orjson

SPEC_VERSION = "1.0"

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"
"""The values that an event's `datacontenttype` has."""

STRUCTURED = "application/cloudevents+json"
"""The media type of `Event.structured`."""


class DataForm(Enum):
    """How a body stands in the JSON of an event."""

    JSON = "json"
    """As the JSON object or array that it is, its bytes untouched."""
    TEXT = "text"
    """As a JSON string."""
    BASE64 = "base64"
    """As Base64 in `data_base64`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One message on its way to the sinks. Nothing in it changes; a redelivery of the same message is another Event."""

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

    @property
    def data(self) -> bytes:
        """The body alone, as bytes: what binary content mode carries."""
        return self.body.encode() if isinstance(self.body, str) else self.body

    def structured(self) -> bytes:
        """The event as one JSON object (CloudEvents JSON format 1.0).

        A JSON body keeps its own line breaks; whoever writes one event a line turns CR and LF into spaces, which in valid JSON
        stand only between tokens.
        """
        if self.form is DataForm.JSON:
            return orjson.dumps({"id": self.id, **self.attributes, "data": orjson.Fragment(self.body)})
        if self.form is DataForm.TEXT:
            return orjson.dumps({"id": self.id, **self.attributes, "data": self.body})
        return orjson.dumps({"id": self.id, **self.attributes, "data_base64": b64encode(self.data).decode()})
