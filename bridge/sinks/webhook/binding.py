"""The CloudEvents HTTP binding: what an event, or a batch of them, looks like as a request."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final
from urllib.parse import quote

from bridge.event import CLOUDEVENTS, JSON, Event

CLOUDEVENTS_TYPE = "application/cloudevents+json"
BATCH_TYPE = "application/cloudevents-batch+json"

# HTTP binding 3.1.3.2: "Space (U+0020), Double-quote (U+0022), Percent (U+0025), and any characters outside the printable ASCII
# range of U+0021-U+007E inclusive" are percent-encoded. What is left can't end a header, nor begin another.
_SAFE: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
_NEEDS_NO_QUOTING: Final = re.compile(f"[{re.escape(_SAFE)}]*")  # nearly all do; asking costs a quarter of quoting


@dataclass(frozen=True, slots=True)
class Written:
    """A request, but for what depends on the attempt: its signature, and who it is from."""

    id: str
    """Of the event, or of the batch; the same for every attempt with the same events. Fit for a header."""
    headers: Mapping[str, str]
    body: bytes


def groups(mode: str, batch_max: int, events: Sequence[Event]) -> Iterator[Sequence[Event]]:
    """What goes out together, in the order of the events; those that can't be parts of a JSON array go alone."""
    for element_type, run in groupby(events, key=_element_type):
        together = list(run)
        size = batch_max if mode == "batch" and element_type else 1
        for start in range(0, len(together), size):
            yield together[start : start + size]


def written(mode: str, events: Sequence[Event]) -> Written:
    """The events of one group as a request."""
    # A request belongs to one trace, and each event of a batch to its own.
    trace = dict(events[0].trace_headers) if len(events) == 1 else {}
    if mode == "batch" and (element_type := _element_type(events[0])):
        content_type = BATCH_TYPE if element_type == CLOUDEVENTS_TYPE else element_type
        body = b"[" + b",".join(event.structured() for event in events) + b"]"
        return _written(_batch_id(events), content_type, trace, body)
    (event,) = events
    if mode == "binary":
        attributes = {f"ce-{name}": header_value(value) for name, value in event.header_attributes.items()}
        return _written(event.id, str(event.attributes["datacontenttype"]), {**attributes, **trace}, event.data)
    return _written(event.id, event.media_type, trace, event.structured())


def header_value(text: str) -> str:
    """Any text as the value of a header; what a receiver decodes is the text again."""
    return text if _NEEDS_NO_QUOTING.fullmatch(text) else quote(text, safe=_SAFE, errors="replace")


def _written(message_id: str, content_type: str, more: Mapping[str, str], body: bytes) -> Written:
    name = header_value(message_id)
    headers = {"Content-Type": content_type, "webhook-id": name, "Idempotency-Key": name}
    return Written(name, {**headers, **more}, body)


def _element_type(event: Event) -> str | None:
    """What an array of such events is made of; None where the event as a whole is no JSON."""
    if event.envelope is CLOUDEVENTS:
        return CLOUDEVENTS_TYPE
    return event.media_type if event.media_type.partition(";")[0] == JSON else None


def _batch_id(events: Sequence[Event]) -> str:
    ids = json.dumps([event.id for event in events])  # no two lists of ids are written alike
    return f"batch_{hashlib.sha256(ids.encode()).hexdigest()[:32]}"
