"""The emulator's XML against the standard library's parser, for any text."""

import base64
import random
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.emulator import wire
from bridge.emulator.broker import Broker
from bridge.emulator.errors import ServiceError
from bridge.emulator.handles import ReceiptHandle, parse_handle
from bridge.emulator.properties import format_properties, parse_properties
from bridge.emulator.stored import AckFailure
from emulator.raw_http import NAMESPACE, parse

LEGAL_TEXT = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="".join(map(chr, [*range(0x20), 0xFFFE, 0xFFFF])))
    | st.sampled_from("\t\n\r<>&\"']")
)
PROPERTY_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\"'<>&:|\ufffe\uffff"))


@given(body=LEGAL_TEXT, tag=LEGAL_TEXT.map(lambda text: text.replace("|", "")))
def test_any_legal_text_is_written_so_that_a_parser_recovers_it(body: str, tag: str) -> None:
    broker = Broker(rng=random.Random(0))
    broker.publish(0, "topicA", body, tag=tag)
    [message] = broker.consume(0, "topicA", "GID_a")
    root = parse(wire.write_messages([wire.write_message(message)]))
    assert root.findtext(f".//{{{NAMESPACE}}}MessageBody") == body
    assert (root.findtext(f".//{{{NAMESPACE}}}MessageTag") or "") == tag


@given(body=LEGAL_TEXT)
def test_any_legal_text_is_read_as_a_writer_meant_it(body: str) -> None:
    document = f"<Message><MessageBody>{escape(body, {chr(13): '&#13;'})}</MessageBody></Message>"
    assert wire.read_publish(document.encode()).body == body


@given(document=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_whatever_is_sent_is_read_or_refused(document: bytes) -> None:
    for read in (wire.read_publish, wire.read_receipt_handles):
        try:
            read(document)
        except ServiceError as error:
            assert error.code in {"MalformedXML", "InvalidArgument", "MissingReceiptHandle"}  # noqa: PT017 - any of them


@given(properties=st.dictionaries(PROPERTY_TEXT.filter(bool), PROPERTY_TEXT, max_size=5))
def test_properties_are_read_as_they_were_written(properties: dict[str, str]) -> None:
    text = format_properties(properties)
    assert parse_properties(text) == properties
    if properties:
        assert text.endswith("|")


@given(message_id=st.from_regex("[0-9A-F]{32}", fullmatch=True), nonce=st.integers(0, 2**32 - 1), delivery=st.integers(0, 289))
def test_a_handle_is_read_as_it_was_written(message_id: str, nonce: int, delivery: int) -> None:
    handle = ReceiptHandle(message_id, nonce, delivery)
    assert str(handle).startswith(f"{message_id}-")
    assert parse_handle(str(handle)) == handle


@pytest.mark.parametrize("spelling", ["0000000a12", "0000000A12", "0000000a 12", "0000000a+12", "0000000a012", "0x00000a12"])
def test_only_one_spelling_of_a_handle_is_read(spelling: str) -> None:
    text = f"ABC-{base64.b64encode(spelling.encode()).decode()}"
    assert parse_handle(text) == (ReceiptHandle("ABC", 10, 12) if spelling == "0000000a12" else None)


def test_comments_and_instructions_are_no_part_of_a_text() -> None:
    document = b"<!-- a --><Message><?b?><MessageBody>c<!-- d -->e<?f?>g<![CDATA[<h>]]></MessageBody></Message>"
    assert wire.read_publish(document).body == "ceg<h>"


@given(text=st.text() | st.from_regex("[0-9A-F]{4}-[A-Za-z0-9+/]{4,16}={0,2}", fullmatch=True))
def test_any_text_is_a_handle_in_its_only_spelling_or_none(text: str) -> None:
    handle = parse_handle(text)
    assert handle is None or str(handle) == text


@given(handles=st.lists(LEGAL_TEXT, min_size=1, max_size=4))
def test_a_failed_handle_is_listed_as_it_was_sent(handles: list[str]) -> None:
    root = parse(wire.write_ack_failures([AckFailure("ReceiptHandleError", handle) for handle in handles]))
    assert [item.text or "" for item in root.iter(f"{{{NAMESPACE}}}ReceiptHandle")] == handles
