"""The properties string: whatever it holds gives pairs, and what an encoder wrote gives what it was given."""

from bridge.emulator.errors import ServiceError
from bridge.emulator.properties import check_properties, format_properties, parse_properties
from bridge.rocketmq.codec import read_properties

TOKENS = [b"|", b":", b"||", b"::", b"KEYS:", b"__SHARDINGKEY:", b"a:1|b:x:2|c:3|", b"\0", "中".encode(), b"\xff", b"\"'<>&"]


def properties(string: bytes) -> None:
    """A properties string in UTF-8, halves of surrogate pairs among it."""
    text = string.decode("utf-8", "surrogateescape")
    pairs = read_properties(text)
    assert pairs == _one_by_one(text)
    assert read_properties(format_properties(pairs)) == pairs  # they hold nothing that a pair can't
    try:
        theirs = parse_properties(text)
        check_properties(theirs)
    except (ServiceError, UnicodeEncodeError):  # a producer could not have sent it
        return
    assert pairs == theirs


def _one_by_one(text: str) -> dict[str, str]:
    """The grammar of protocol.md 5.1, character by character, with the client rule of 5.2."""
    pairs: dict[str, str] = {}
    key: str | None = None
    piece = ""
    for character in [*text, "|"]:
        if character == "|":
            if key:
                pairs[key] = piece
            key, piece = None, ""
        elif character == ":" and key is None:
            key, piece = piece, ""
        else:
            piece += character
    return pairs
