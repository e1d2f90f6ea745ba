"""What comes in damaged spoils nothing beside it (design.md 4, protocol.md 5.4); point 38 of protocol.md 10."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bridge.errors import BridgeError, BrokenAnswerError
from bridge.rocketmq.codec import Subscription, read_ack, read_poll, read_publish
from bridge.rocketmq.damage import Damaged
from bridge.rocketmq.message import Message
from rocketmq.documents import ack_errors, batch, element, error, expected
from rocketmq.texts import any_text, joined

HANDLES = [expected(number).receipt_handle for number in (1, 2, 3)]


def around(damaged: str | bytes) -> tuple[Message | Damaged, ...]:
    """A batch of three with a damaged one in the middle; the other two must be as they should."""
    first, middle, last = read_poll(200, batch(element(1), damaged, element(3)))
    assert (first, last) == (expected(1), expected(3))
    return first, middle, last


def test_point_38_one_body_with_an_illegal_reference_costs_no_message_and_no_handle() -> None:
    properties = element(2, body="a&#1;b").replace("KEYS:MessageKey|__BORNHOST:30.5.0.1|", "a:1|b:x:2|c:3")

    messages = around(properties)

    assert messages[1] == replace(expected(2, body="a\x01b"), properties={"a": "1", "b": "x:2", "c": "3"})
    assert [message.receipt_handle for message in messages] == HANDLES


@pytest.mark.parametrize(
    ("body", "meant"),
    [
        ("&#0;&#8;&#x0B;&#x1f;", "\x00\x08\x0b\x1f"),
        (b"\x00\x01\x0b\x1f", "\x00\x01\x0b\x1f"),
        ("&#xD83D;&#xDE00;", "😀"),
        ("&#55357;&#56832;", "😀"),
        ("&#xD83D;", "\ud83d"),
        ("&#xDE00;&#xD83D;", "\ude00\ud83d"),
        ("&#xD83D;&#xD83D;&#xDE00;x", "\ud83d😀x"),
        ("&#xFFFE;&#65535;", "\ufffe\uffff"),
        ("\ufffe\uffff", "\ufffe\uffff"),
        # Characters with which the repair itself works.
        ("\ufdd0&#1;\ufdd1", "\ufdd0\x01\ufdd1"),
        ("\ufdd01\ufdd1&#1;", "\ufdd01\ufdd1\x01"),
        ("&#xFDD0;1&#xFDD1;&#1;", "\ufdd01\ufdd1\x01"),
        ("&#x000000FDD0;1&#x000000FDD1;&#1;", "\ufdd01\ufdd1\x01"),
        ("&#x000000001;&#0000000000;", "\x01\x00"),
        ("\ufeffa&#1;", "\ufeffa\x01"),
        # What looks like a reference and is none.
        ("&amp;#1;&#1;", "&#1;\x01"),
        ("&#1;&lt;&#13;&#x1F600;😀", "\x01<\r😀😀"),
    ],
    ids=ascii,
)
def test_a_character_that_xml_cannot_hold_is_carried_as_the_character_it_names(body: str | bytes, meant: str) -> None:
    raw = element(2, body="BODY").encode().replace(b"BODY", body if isinstance(body, bytes) else body.encode())

    assert around(raw)[1] == expected(2, body=meant)


def test_characters_that_xml_cannot_hold_are_carried_in_tags_and_properties_too() -> None:
    damaged = element(2).replace(">Tag<", ">T&#1;<").replace("KEYS:MessageKey", "KEYS:&#2;|&#3;:k")

    message = around(damaged)[1]

    assert isinstance(message, Message)
    assert message.tag == "T\x01"
    assert message.properties == {"KEYS": "\x02", "\x03": "k", "__BORNHOST": "30.5.0.1"}


@dataclass(frozen=True)
class Case:
    """One kind of damage that nothing can be read through, and which fact about the message goes with it."""

    name: str
    damage: Callable[[str], str | bytes]
    reason: str
    lost: str | None = None


def in_body(body: str | bytes) -> Callable[[str], bytes]:
    inner = body.encode() if isinstance(body, str) else body
    return lambda whole: whole.encode().replace(b">a<", b">" + inner + b"<")


def dropping(name: str) -> Callable[[str], str]:
    return lambda whole: "".join(line for line in whole.splitlines(keepends=True) if not line.startswith(f"<{name}>"))


def replacing(old: str, new: str) -> Callable[[str], str]:
    return lambda whole: whole.replace(old, new)


HANDLE_2 = expected(2).receipt_handle
NO_LEASE = "NextConsumeTime is no number"
CASES = [
    Case("a bare <", in_body("a < b"), "broken"),
    Case("a bare < at the end", in_body("a<"), "broken"),
    Case("a bare &", in_body("a & b"), "broken"),
    Case("an unknown entity", in_body("&nbsp;"), "broken"),
    Case("a reference beyond Unicode", in_body("&#1114112;"), "broken"),
    Case("a hexadecimal reference beyond Unicode", in_body("&#x110000;"), "broken"),
    Case("a reference beyond any number", in_body("&#99999999999999999999;"), "broken"),
    Case("an empty reference", in_body("&#;&#x;"), "broken"),
    Case("invalid UTF-8", in_body(b"\xff\xfe"), "broken"),
    Case("a surrogate in UTF-8", in_body(b"\xed\xa0\x80"), "broken"),
    Case("half a character", in_body("中".encode()[:2]), "broken"),
    Case("markup", in_body("<b>bold</b>"), "MessageBody holds other elements"),
    Case("300 levels", in_body("<x>" * 300 + "</x>" * 300), ""),
    Case("30,000 levels", in_body("<x>" * 30_000 + "</x>" * 30_000), "broken"),
    Case("an end that doesn't match", replacing("</MessageBody>", "</MessageBod>"), "broken"),
    Case("no end", replacing("</Message>\n", ""), "broken"),
    Case("no body", dropping("MessageBody"), "no MessageBody"),
    Case("no id", dropping("MessageId"), "no MessageId", lost="message_id"),
    Case("an empty id", replacing(expected(2).message_id + "</M", "</M"), "no MessageId", lost="message_id"),
    Case("no handle", dropping("ReceiptHandle"), "no ReceiptHandle", lost="receipt_handle"),
    Case("an empty handle", replacing(HANDLE_2, ""), "no ReceiptHandle", lost="receipt_handle"),
    Case("no lease", dropping("NextConsumeTime"), NO_LEASE, lost="next_consume_time"),
    Case("a lease without a number", replacing("1571743202463", "soon"), NO_LEASE, lost="next_consume_time"),
    Case("a lease beyond all time", replacing("1571743202463", "9" * 40), NO_LEASE, lost="next_consume_time"),
    # An ack can't carry it either, and would take those of the neighbours along.
    Case("an illegal handle", replacing(HANDLE_2, "h&#1;"), "ReceiptHandle holds", lost="receipt_handle"),
    Case("half a surrogate in the handle", replacing(HANDLE_2, "h&#xD800;"), "ReceiptHandle holds", lost="receipt_handle"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_cannot_be_read_is_handed_on_as_its_bytes_with_what_could_be_recovered(case: Case) -> None:
    damaged = case.damage(element(2))
    raw = damaged if isinstance(damaged, bytes) else damaged.encode()
    whole = expected(2)

    outcome = around(damaged)[1]

    assert isinstance(outcome, Damaged)
    assert case.reason in outcome.reason
    assert outcome.raw.strip() == raw.strip()
    for fact in ("message_id", "receipt_handle", "next_consume_time", "consumed_times"):
        assert getattr(outcome, fact) == (None if fact == case.lost else getattr(whole, fact)), fact


def test_an_answer_that_was_cut_anywhere_still_gives_what_had_arrived_whole() -> None:
    document = batch(element(1), element(2), element(3))
    ends = [end for end in range(len(document)) if document[:end].endswith(b"</Message>")]
    handles_end = [end for end in range(len(document)) if document[:end].endswith(b"</ReceiptHandle>")]
    first_message = document.index(b"<Message>") + len(b"<Message>")

    for cut in range(len(document)):
        if cut < first_message:
            with pytest.raises(BrokenAnswerError):
                read_poll(200, document[:cut])
            continue
        outcome = read_poll(200, document[:cut])
        whole = sum(cut >= end for end in ends)
        assert outcome[:whole] == tuple(expected(number) for number in range(1, whole + 1)), cut
        assert all(isinstance(message, Damaged) for message in outcome[whole:]), cut
        handles = [message.receipt_handle for message in outcome if message.receipt_handle]
        assert handles == HANDLES[: sum(cut >= end for end in handles_end)], cut


def test_reading_many_damaged_messages_takes_time_in_proportion_to_them() -> None:
    outcome = read_poll(200, batch("<Message></Message>" * 20_000, element(1)))  # took minutes when each looked at all of them

    assert len(outcome) == 20_001
    assert outcome[-1] == expected(1)


# ---- attacks ---------------------------------------------------------------------------------------------------------


def with_doctype(doctype: str, *elements: str) -> bytes:
    return batch(*elements).replace(b"<Messages", f"<!DOCTYPE Messages {doctype}>\n<Messages".encode(), 1)


def test_entities_of_a_document_type_are_not_expanded() -> None:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))

    outcome = read_poll(200, with_doctype(f'[<!ENTITY l0 "lol">{laughs}]', element(1), element(2, body="&l9;")))

    assert outcome[0] == expected(1)
    assert isinstance(outcome[1], Damaged)
    assert outcome[1].receipt_handle == HANDLES[1]
    assert b"&l9;" in outcome[1].raw


@pytest.mark.parametrize("kind", ["general", "parameter", "subset"])
def test_no_file_is_read_for_a_document(tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text('<!ENTITY e "top secret">' if kind != "general" else "top secret")
    doctype = {
        "general": f'[<!ENTITY e SYSTEM "{secret.as_uri()}">]',
        "parameter": f'[<!ENTITY % p SYSTEM "{secret.as_uri()}"> %p;]',
        "subset": f'SYSTEM "{secret.as_uri()}"',
    }[kind]

    outcome = read_poll(200, with_doctype(doctype, element(1), element(2, body="&e;")))

    assert outcome[0] == expected(1)
    assert isinstance(outcome[1], Damaged)
    assert "top secret" not in repr(outcome)


@pytest.mark.parametrize("read", [read_poll, read_publish, lambda status, body: read_ack(status, body, HANDLES)])
def test_an_error_with_a_document_type_is_not_believed(read: Callable[[int, bytes], object]) -> None:
    document = error("&e;").replace(b"<Error", b'<!DOCTYPE Error [<!ENTITY e "MessageNotExist">]><Error', 1)

    with pytest.raises(BrokenAnswerError):
        read(404, document)


# ---- anything at all -------------------------------------------------------------------------------------------------

STATUSES = st.sampled_from([100, 199, 200, 201, 204, 206, 299, 300, 301, 304, 400, 403, 404, 408, 429, 500, 502, 503, 599, 999])
VALID = st.sampled_from([
    batch(element(1), element(2)),
    batch(element(1, body="&#1;&#xD83D;&#xDE00;"), element(2)),
    batch(element(1).replace("MessageId", "X"), namespace="", declaration=""),
    error("MessageNotExist"),
    error("QpsLimitExceeded"),
    ack_errors(("ReceiptHandleError", HANDLES[0]), ("MessageNotExist", "")),
    b"<Message><MessageId>ID</MessageId><MessageBodyMD5>0CC1</MessageBodyMD5></Message>",
])  # fmt: skip
FRAGMENTS = st.one_of(
    st.binary(max_size=8),
    st.sampled_from([
        b"<Message>", b"</Message>", b"<Messages/>", b"<Message/>", b"<Message ", b"</Messages>", b"<ReceiptHandle>",
        b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"<!DOCTYPE a SYSTEM 'b'>", b"&b;", b"<!--", b"-->", b"<?a b?>", b"<![CDATA[",
        b"&#0;", b"&#xD800;", b"&#xFDD0;", b"\xef\xb7\x90d800\xef\xb7\x91", b"&#x110000;", b"&#99999999999;", b"\x00", b"\xff",
        b'<?xml version="1.0" encoding="utf-16"?>', b'<?xml version="1.0" encoding="x"?>', b"\xff\xfe", b"\xef\xbb\xbf",
        b' xmlns:a="b"', b"<a:b>", b"<Error>", b"<Errors>", b"<Code>", b"9" * 30, b"-1", b"\r\n", b"]]>",
    ]),
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid document after some cuts, insertions, repetitions and flipped bytes."""
    document = draw(VALID)
    for _ in range(draw(st.integers(1, 5))):
        begin, end = sorted((draw(st.integers(0, len(document))), draw(st.integers(0, len(document)))))
        kind = draw(st.sampled_from(["insert", "cut", "truncate", "repeat", "flip", "splice"]))
        if kind == "insert":
            document = document[:begin] + draw(FRAGMENTS) + document[begin:]
        elif kind == "cut":
            document = document[:begin] + document[end:]
        elif kind == "truncate":
            document = document[:end]
        elif kind == "repeat":
            document = document[:end] + document[begin:]
        elif kind == "flip":
            document = (
                document[:begin]
                + bytes(b ^ 1 << draw(st.integers(0, 7)) for b in document[begin : begin + 1])
                + document[begin + 1 :]
            )
        else:
            document = document[:begin] + draw(VALID)[end:]
    return document


@settings(max_examples=600)
@given(status=STATUSES, body=st.one_of(st.binary(max_size=200), mutated()))
def test_any_answer_gives_a_value_or_a_classed_error(status: int, body: bytes) -> None:
    subscription = Subscription(topic="topicA", group="GID_a")
    try:
        outcome: Sequence[Message | Damaged] = read_poll(status, body)
    except BridgeError:
        outcome = ()
    # Whatever handles were found, an ack can carry them.
    assert subscription.ack([message.receipt_handle for message in outcome if message.receipt_handle]).body
    for message in outcome:
        if isinstance(message, Damaged):
            assert message.reason
            assert message.raw
    with suppress(BridgeError):
        assert {failure.receipt_handle for failure in read_ack(status, body, HANDLES)} <= set(HANDLES)
    with suppress(BridgeError):
        assert read_publish(status, body).message_id


def referenced(text: str) -> str:
    """The text as XML in which every character is a reference."""
    return "".join(f"&#{ord(character)};" for character in text)


@settings(max_examples=300)
@given(texts=st.lists(st.tuples(any_text(), any_text(), any_text()), min_size=1, max_size=5))
def test_any_texts_that_are_written_as_references_are_read_back_exactly(texts: list[tuple[str, str, str]]) -> None:
    assume(all("|" not in value for _, _, value in texts))
    document = batch(
        *(
            element(number, body=referenced(body))
            .replace(">Tag<", f">{referenced(tag)}<")
            .replace("KEYS:MessageKey|", f"KEYS:{referenced(value)}|")
            for number, (body, tag, value) in enumerate(texts, start=1)
        )
    )

    assert read_poll(200, document) == tuple(
        replace(
            expected(number, body=joined(body)),
            tag=joined(tag) or None,
            properties={"KEYS": joined(value), "__BORNHOST": "30.5.0.1"},
        )
        for number, (body, tag, value) in enumerate(texts, start=1)
    )
