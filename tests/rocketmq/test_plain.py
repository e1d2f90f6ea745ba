import re
from collections.abc import Sequence
from unittest.mock import patch
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import BridgeError
from bridge.rocketmq import codec, plain
from bridge.rocketmq.damage import Damaged
from bridge.rocketmq.message import Message
from rocketmq.documents import DECLARATION, NAMESPACE, batch, element, expected

TRAILING_SLASH = ' xmlns="http://mq.aliyuncs.com/doc/v1/"'
QUOTES = {'"': "&quot;", "'": "&apos;"}


def read_by_lxml(document: bytes) -> Sequence[Message | Damaged] | str:
    with patch.object(plain, "read", lambda _: None):
        try:
            return codec.read_poll(200, document)
        except BridgeError as problem:
            return str(problem)


@pytest.mark.parametrize("namespace", [NAMESPACE, TRAILING_SLASH, ""])
@pytest.mark.parametrize("declaration", [DECLARATION, '<?xml version="1.0" encoding="UTF-8"?>', ""])
def test_what_the_service_writes_is_read_without_a_parser(namespace: str, declaration: str) -> None:
    text = """{"a": "<b> & 'c'", "d": "&quot; ü 😀 &lt;"}\n"""
    document = batch(element(1, escape(text, QUOTES)), element(2, ""), namespace=namespace, declaration=declaration)

    with patch.object(codec, "_root", side_effect=AssertionError("it was parsed")):
        assert codec.read_poll(200, document) == (expected(1, text), expected(2, ""))


@pytest.mark.parametrize("name", ["MessageBodyMD5", "MessageTag", "Properties"])
def test_what_a_message_may_lack_may_be_missing(name: str) -> None:
    without = re.sub(f"<{name}>.*</{name}>\n", "", element(1))
    document = batch(without, element(2))

    assert f"<{name}>" not in without
    assert plain.read(document) is not None
    assert codec.read_poll(200, document) == read_by_lxml(document)


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(batch(element(1, "<![CDATA[a]]>")), id="CDATA"),
        pytest.param(batch(element(1, "<!-- b -->a")), id="comment"),
        pytest.param(batch(element(1, "<b>a</b>")), id="element within"),
        pytest.param(batch(element(1, "&#1;")), id="reference to a character"),
        pytest.param(batch(element(1, "&b;")), id="entity"),
        pytest.param(batch(element(1, "a & b")), id="bare ampersand"),
        pytest.param(batch(element(1, "a\r\nb")), id="carriage return"),
        pytest.param(batch(element(1).replace("<MessageBody>", '<MessageBody a="b">')), id="attribute"),
        pytest.param(batch(element(1).replace("MessageTag", "MessageFlag")), id="unknown element"),
        pytest.param(batch(element(1).replace("<MessageTag>Tag</MessageTag>", "<MessageTag/>")), id="empty element"),
        pytest.param(batch(element(1).replace("<ReceiptHandle>", "<MessageBody>b</MessageBody><ReceiptHandle>")), id="two"),
        pytest.param(batch(re.sub("(<MessageId>.*)\n(<MessageBodyMD5>.*)\n", r"\2\1", element(1))), id="another order"),
        pytest.param(batch(re.sub("<MessageId>.*</MessageId>", "<MessageId></MessageId>", element(1))), id="empty id"),
        pytest.param(batch(re.sub("<ReceiptHandle>.*</ReceiptHandle>\n", "", element(1))), id="no receipt handle"),
        pytest.param(batch(element(1).replace("<ConsumedTimes>1<", "<ConsumedTimes>one<")), id="no number"),
        pytest.param(batch(element(1).replace("<ConsumedTimes>1<", f"<ConsumedTimes>{'1' * 19}<")), id="a number too long"),
        pytest.param(batch(element(1).replace("-MTI5N", "\x01")), id="receipt handle that no ack can carry"),
        pytest.param(batch(element(1), "<Else></Else>"), id="something else than messages"),
        pytest.param(batch(element(1)).removesuffix(b"</Messages>\n"), id="cut"),
        pytest.param(batch(element(1)) + b"<Messages/>", id="more behind it"),
        pytest.param(batch(element(1), namespace=' xmlns="http://example.com/"'), id="another namespace"),
        pytest.param(batch(element(1), declaration="<!DOCTYPE Messages []>"), id="document type"),
        pytest.param(batch(element(1), declaration='<?xml version="1.0" encoding="latin-1"?>'), id="another encoding"),
        pytest.param(batch(element(1, "é").encode("latin-1")), id="no UTF-8"),
        pytest.param(batch(), id="no messages"),
    ],
)
def test_what_has_another_form_is_left_to_the_parser(document: bytes) -> None:
    assert plain.read(document) is None


def test_a_large_answer_is_left_to_the_parser_which_takes_less_memory_for_it() -> None:
    assert plain.read(batch(element(1, "a" * plain.MAX_BYTES))) is None


PIECES = st.sampled_from(
    [
        *("<Message>", "</Message>", "<MessageTag>", "</MessageTag>", "<MessageId>", "</MessageId>", "<a>", "</a>", "<", ">"),
        *("&quot;", "&amp;", "&lt;", "&", "quot;", "amp;", "&#1;", "&#xFDD0;", "\ufdd0", "\ufdd1", "\uffff", "\x01", "\0", "/"),
        *("a", " ", "\n", "\t", "\x85", "ü", "😀", "]]", "-->", "<!--", "0", "12", "\u0663"),
    ]
)


@given(st.lists(PIECES, max_size=8).map("".join), st.sampled_from(["body", "handle", "number", "between", "after"]))
def test_what_is_read_without_a_parser_is_what_the_parser_would_have_read(text: str, where: str) -> None:
    if where == "body":
        document = batch(element(1, text), element(2))
    elif where == "handle":
        document = batch(element(1).replace("-MTI5N", text), element(2))
    elif where == "number":
        document = batch(element(1).replace("<ConsumedTimes>1", f"<ConsumedTimes>{text}"), element(2))
    elif where == "between":
        document = batch(element(1).replace("</MessageId>", f"</MessageId>{text}"), element(2))
    else:
        document = batch(element(1), text, element(2))

    if plain.read(document) is not None and "]]>" not in text:
        assert codec.read_poll(200, document) == read_by_lxml(document)
