"""Answers to polls in the one form in which the service writes them (protocol.md 2.3), read without an XML parser.

One pattern reads a whole message, its elements in the service's order: that takes less than a third of the time in which lxml
makes a tree of it and hands out its elements. What has any other form is None here, and left to lxml; what is read here would
be read alike there. Only, a bare `]]>` is no reason to call a message broken.
"""

import re
from collections.abc import Sequence

MAX_BYTES = 1 << 20
"""Larger answers are left to lxml, as reading them here takes several times their size in memory."""

ELEMENTS = (
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
)
"""What a message consists of, in the service's order."""

_BEGIN = re.compile(
    r"""(?:<\?xml version=["']1\.0["'](?: encoding=["'](?i:utf-8)["'])? ?\?>)?[ \t\n]*"""
    r"""<Messages(?: xmlns="http://mq\.aliyuncs\.com/doc/v1/?")?>[ \t\n]*"""
)
_TEXT, _SOME_TEXT, _NUMBER = "[^<]*+", "[^<]++", "[0-9]{1,18}+"
_NEEDED = {"MessageId": _SOME_TEXT, "MessageBody": _TEXT, "ReceiptHandle": _SOME_TEXT}
_NEEDED |= dict.fromkeys(("PublishTime", "FirstConsumeTime", "NextConsumeTime", "ConsumedTimes"), _NUMBER)
# Possessive: nothing is looked at twice.
_MESSAGE = re.compile(
    "<Message>[ \t\n]*+"
    + "".join(
        f"(?:<{name}>({_NEEDED.get(name, _TEXT)})</{name}>[ \t\n]*+){'' if name in _NEEDED else '?+'}" for name in ELEMENTS
    )
    + "</Message>[ \t\n]*+"
)


def read(body: bytes) -> list[Sequence[str]] | None:
    """The texts of each message, in the order of ELEMENTS, empty for what isn't there; None for what isn't in the plain form.

    Message ids and receipt handles aren't empty, and what should be a number has 1 to 18 digits.
    """
    if len(body) > MAX_BYTES or b"\r" in body:  # which XML reads as a line feed
        return None
    try:
        text = body.decode()
        begin = _BEGIN.match(text)
        return (_messages(text, begin.end()) or None) if begin else None
    except ValueError:
        return None


def _messages(text: str, position: int) -> list[Sequence[str]]:
    """The messages from `position` on. Raises ValueError for what isn't plain."""
    messages: list[Sequence[str]] = []
    has_references = "&" in text
    while message := _MESSAGE.match(text, position):
        position = message.end()
        texts: Sequence[str] = message.groups("")
        if has_references:
            texts = [_unescaped(text) if "&" in text else text for text in texts]
        if not texts[_RECEIPT_HANDLE].isprintable():  # one that no ack can carry is damage, which is told elsewhere
            raise ValueError("it isn't as the service writes it")
        messages.append(texts)
    if text[position:].rstrip(" \t\n") != "</Messages>":
        raise ValueError("it holds something else than messages")
    return messages


_RECEIPT_HANDLE = ELEMENTS.index("ReceiptHandle")


def _unescaped(text: str) -> str:
    text = text.replace("&quot;", '"')
    if "&" in text:
        text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&apos;", "'")
        if text.count("&") != text.count("&amp;"):
            raise ValueError("it refers to other characters than the five that XML has names for")
        text = text.replace("&amp;", "&")
    return text
