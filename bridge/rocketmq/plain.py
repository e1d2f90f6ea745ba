"""Answers to polls in the one form in which the service writes them (protocol.md 2.3), read without an XML parser.

A list of messages, each a list of elements that hold nothing but text: that is read in a third of the time that lxml takes to
make a tree of it and to hand out its elements. What has any other form is None here, and left to lxml; what is read here would
be read alike there. Only, a bare `]]>` is no reason to call a message broken.
"""

import re
from collections.abc import Iterator

MAX_BYTES = 1 << 20
"""Larger answers are left to lxml, as reading them here takes several times their size in memory."""

ELEMENTS = frozenset(
    {
        "MessageId",
        "MessageBodyMD5",
        "MessageBody",
        "ReceiptHandle",
        "PublishTime",
        "FirstConsumeTime",
        "NextConsumeTime",
        "ConsumedTimes",
        "MessageTag",
        "Properties",
    }
)
"""What a message consists of."""

_BEGIN = re.compile(
    r"""(?:<\?xml version=["']1\.0["'](?: encoding=["'](?i:utf-8)["'])? ?\?>)?\s*"""
    r"""<Messages(?: xmlns="http://mq\.aliyuncs\.com/doc/v1/?")?>\s*<"""
)


def read(body: bytes) -> list[dict[str, str]] | None:
    """The texts of the elements of each message, by their names; None for what isn't written in the plain form."""
    if len(body) > MAX_BYTES or b"\r" in body:  # which XML reads as a line feed
        return None
    try:
        text = body.decode()
        begin = _BEGIN.match(text)
        return (_messages(text[begin.end() :].split("<")) or None) if begin else None
    except ValueError:
        return None


def _messages(pieces: list[str]) -> list[dict[str, str]]:
    """The messages of a document that was split at each `<`. Raises ValueError for what isn't plain."""
    if pieces.pop().rstrip() != "/Messages>":
        raise ValueError("it doesn't end as it should")
    messages = []
    rest = iter(pieces)
    for piece in rest:
        if piece.rstrip() != "Message>":
            raise ValueError("it holds something else than messages")
        messages.append(_elements(rest))
    return messages


def _elements(rest: Iterator[str]) -> dict[str, str]:
    elements: dict[str, str] = {}
    for piece in rest:
        name, _, text = piece.partition(">")
        if name == "/Message":
            break
        if next(rest, "").rstrip() != f"/{name}>":
            raise ValueError("it holds something else than text")
        elements[name] = _unescaped(text) if "&" in text else text
    # A receipt handle that no ack can carry is damage, which is told elsewhere.
    if not elements.keys() <= ELEMENTS or not elements.get("ReceiptHandle", "").isprintable():
        raise ValueError("it isn't as the service writes it")
    return elements


def _unescaped(text: str) -> str:
    text = text.replace("&quot;", '"')
    if "&" in text:
        text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&apos;", "'")
        if text.count("&") != text.count("&amp;"):
            raise ValueError("it refers to other characters than the five that XML has names for")
        text = text.replace("&amp;", "&")
    return text
