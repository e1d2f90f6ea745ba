"""What comes in damaged, and how much of it can be saved (design.md 4, protocol.md 5.4).

One damaged message must not hold its batch: the service was seen sending references to characters that XML has no place for,
and every official SDK but three loses the whole batch over it, up to 288 times.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import AnyStr


@dataclass(frozen=True, slots=True, kw_only=True)
class Damaged:
    """A message of a batch that can't be read."""

    reason: str
    raw: bytes
    """The original bytes of its element."""
    message_id: str | None
    """None where it could not be recovered; so too the others."""
    receipt_handle: str | None
    next_consume_time: int | None
    """The end of its lease, in milliseconds since the epoch on the broker's clock."""
    consumed_times: int | None


# A character that XML can't hold is replaced by a token that it can: U+FDD0, its number in hexadecimal, U+FDD1. Both are
# noncharacters that XML allows and nobody uses; a U+FDD0 of the message's own is written as such a token too.
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
_REFERENCE = re.compile(rb"&#(?:x0*[0-9a-fA-F]{1,6}|0*[0-9]{1,7});")
_TOKEN = re.compile(f"{_OPEN}(?!fdd0)[0-9a-f]+{_CLOSE}")
_MAX_CODE_POINT = 0x10FFFF


def repair(xml: bytes) -> bytes:
    """XML in which every character that XML can't hold is a token; `restore` undoes it in the texts that are read from it."""
    for character, token in _TOKEN_OF_RAW:
        xml = xml.replace(character, token)
    return _replaced(_REFERENCE, _without_reference, xml)


def restore(text: str) -> str:
    """The text that `repair` made readable, with the characters that were meant; two halves of a surrogate pair are joined."""
    if _OPEN not in text:
        return text
    text = _replaced(_TOKEN, _without_token, text)
    text = text.replace(_token(ord(_OPEN)), _OPEN)  # after the others, or it would make tokens
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _replaced(pattern: re.Pattern[AnyStr], replacement: Callable[[AnyStr], AnyStr], text: AnyStr) -> AnyStr:
    """As `pattern.sub` does it, but fast for a body of millions of the same few, such as a zeroed block of memory."""
    instead_of = cache(replacement)
    for found in {match[0] for match in islice(pattern.finditer(text), 64)}:
        text = text.replace(found, instead_of(found))
    return pattern.sub(lambda match: instead_of(match[0]), text)


def _token(code: int) -> str:
    return f"{_OPEN}{code:x}{_CLOSE}"


# U+FDD0 before the others, whose tokens begin with it. A surrogate can't stand in UTF-8.
_TOKEN_OF_RAW = [
    (chr(code).encode(), _token(code).encode()) for code in (ord(_OPEN), *range(9), 0xB, 0xC, *range(0xE, 0x20), 0xFFFE, 0xFFFF)
]


def _without_reference(reference: bytes) -> bytes:
    digits = reference[2:-1]
    code = int(digits[1:], 16) if digits.startswith(b"x") else int(digits.lstrip(b"0") or b"0")
    if code > _MAX_CODE_POINT or (_legal(code) and chr(code) != _OPEN):
        return reference  # names no character at all, or one that needs no help
    return _token(code).encode()


def _without_token(token: str) -> str:
    return chr(int(token[1:-1], 16))


def _legal(code: int) -> bool:
    # XML 1.0, Char ::= #x9 | #xA | #xD | [#x20-#xD7FF] | [#xE000-#xFFFD] | [#x10000-#x10FFFF]
    return code in (0x9, 0xA, 0xD) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000  # noqa: PLR2004


# Possessive: a body of 4 MB is passed over at once, and nothing is looked at twice.
_MESSAGE = re.compile(rb"<Message(?:\s[^<>]*)?>[^<]*+(?:<(?!/Message\s*>|Message[\s>])[^<]*+)*+(?:</Message\s*>)?")


def segments(xml: bytes) -> list[bytes]:
    """The original bytes of each message, without parsing: from `<Message>` to its end, or to where the next one begins.

    A body can't hold these marks: the service escapes `<`, and sends no CDATA (protocol.md 2.4).
    """
    return _MESSAGE.findall(xml)


def damaged(raw: bytes, reason: str) -> Damaged:
    """What can be recovered of a message by looking at its bytes alone."""
    lease_end, times = _find("NextConsumeTime", raw), _find("ConsumedTimes", raw)
    return Damaged(
        reason=reason,
        raw=raw,
        message_id=_find("MessageId", raw),
        receipt_handle=_find("ReceiptHandle", raw),
        next_consume_time=number(lease_end),
        consumed_times=number(times),
    )


def _find(name: str, raw: bytes) -> str | None:
    # What stands in these elements is plain (protocol.md 2.3): no reference, no blank, a few hundred characters at most.
    found = re.search(rf"<{name}>\s*([!-%'-;=-~]{{1,1024}})\s*</{name}>".encode(), raw)
    return found[1].decode() if found else None


_MAX_DIGITS = 18


def number(text: str | None) -> int | None:
    """A decimal number of at most 18 digits as the service writes them (protocol.md 2.3), or None."""
    if text and len(text) <= _MAX_DIGITS and text.isascii() and text.isdigit():
        return int(text)
    return None
