"""Whatever stands in a message, a request stays one request, and the receiver reads it back."""

from dataclasses import replace
from urllib.parse import unquote

from cloudevents.core.bindings.http import HTTPMessage, from_binary_event
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.event import Event
from bridge.sinks import CONFIRMED
from bridge.sinks.webhook.binding import header_value, written
from bridge.testing import make_event
from webhook.receiver import SECRET, opened, receiving, send

NASTY = st.text(
    st.one_of(st.characters(codec="utf-8"), st.sampled_from('\r\n\0\t %"\x7f\x85\u2028:,;=\\')),
    min_size=1,
)


@given(NASTY)
def test_a_header_value_is_visible_ascii_and_reads_back(text: str) -> None:
    value = header_value(text)
    assert all("!" <= character <= "~" for character in value)
    assert unquote(value) == text


@given(st.text(st.characters(), min_size=1))
def test_even_half_of_a_surrogate_pair_makes_a_legal_header(text: str) -> None:
    assert all("!" <= character <= "~" for character in header_value(text))


@example(some=["ab", "c"], others=["a", "bc"])
@given(some=st.lists(NASTY, min_size=2, max_size=2), others=st.lists(NASTY, min_size=2, max_size=2))
def test_different_batches_have_different_ids_fit_for_a_header(some: list[str], others: list[str]) -> None:
    ids = [written("batch", [make(event_id) for event_id in event_ids]).id for event_ids in (some, others)]
    assert (ids[0] == ids[1]) is (some == others)
    assert all(event_id.isascii() and event_id.isprintable() for event_id in ids)


def make(event_id: str, subject: str = "s") -> Event:
    event = make_event()
    return replace(event, id=event_id, attributes={**event.attributes, "subject": subject, "mqproperties": subject})


@given(NASTY, NASTY)
def test_attributes_of_any_characters_are_read_back_and_add_no_header(event_id: str, subject: str) -> None:
    plain, nasty = written("binary", [make("id")]), written("binary", [make(event_id, subject)])
    assert nasty.headers.keys() == plain.headers.keys()
    parsed = from_binary_event(HTTPMessage(headers=dict(nasty.headers), body=nasty.body))
    assert parsed.get_id() == event_id
    assert parsed.get_subject() == parsed.get_extension("mqproperties") == subject


async def test_what_tries_to_inject_headers_arrives_as_one_request_with_the_usual_ones() -> None:
    tries = ["\r\nX-Injected: 1", "a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n", "a\nX-Injected: 1", "\0", "é\x85\u2028"]
    async with receiving() as receiver:
        for mode in ("structured", "binary", "batch"):
            async with opened(receiver.url, mode=mode, signing_secret=SECRET) as sink:
                assert await send(sink, make("plain")) == [CONFIRMED]
                usual = receiver.last.headers.keys()
                for text in tries:
                    assert await send(sink, make(text, text)) == [CONFIRMED]
                    assert receiver.last.headers.keys() == usual
                    assert receiver.last.path == "/hook"
        assert len(receiver.requests) == 3 * (1 + len(tries))
