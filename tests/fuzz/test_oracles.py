"""Each oracle catches the mistake that it is there for."""

import mmap
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from bridge import loading
from bridge.rocketmq import codec, conversion, plain
from bridge.rocketmq.damage import damaged, segments
from fuzz import answers, dates, properties, watch
from fuzz.targets import CORPUS, TARGETS
from fuzz.watch import watched
from rocketmq.documents import expected

LOOSE = etree.XMLParser(resolve_entities=True, load_dtd=True, no_network=False)
LOOSE.resolvers.add(watch.Tripwire())


def only_two_parts(text: str) -> dict[str, str]:
    """What six of the official SDKs make of a properties string (protocol.md 5.2)."""
    pieces = (piece.split(":") for piece in text.split("|"))
    return {piece[0]: piece[1] for piece in pieces if len(piece) == 2}


MISTAKES: list[tuple[str, object, str, Any]] = [
    ("poll/external-entity.xml", codec, "_root", lambda body, parser=LOOSE: etree.fromstring(body, parser)),
    ("poll/external-subset.xml", codec, "_root", lambda body, parser=LOOSE: etree.fromstring(body, parser)),
    ("poll/error-with-controls.xml", codec, "_legible", lambda text, length: text[:length]),
    ("poll/error-with-long-code.xml", codec, "_legible", lambda text, *_: text),
    ("poll/beyond-unicode.xml", codec, "damaged", lambda raw, reason: replace(damaged(raw, reason), receipt_handle=None)),
    ("poll/carriage-return-in-handle.xml", codec, "_escaped", lambda text: text),
    ("poll/illegal-handle.xml", codec, "_ILLEGAL_IN_XML", frozenset()),
    ("poll/comments.xml", codec, "_from_fields", lambda _: expected()),
    ("neighbours/less-than.xml", codec, "segments", lambda xml: segments(xml)[:-1]),
    ("ack/two.xml", answers, "read_ack", lambda *_: ()),
    ("publish/denied.xml", codec, "_legible", lambda text, *_: text + "\n"),
    ("properties/colons", properties, "read_properties", only_two_parts),
    ("poll/entities.xml", plain, "_unescaped", lambda text: text),
    ("event/controls", conversion, "_fits", lambda _: True),
    ("roundtrip/controls", codec, "restore", lambda text: text),
    ("date/rfc-1123", dates, "_instant", lambda _: float("nan")),
    ("settings/secret-with-a-blank", loading, "is_secret", lambda _: False),
]


@pytest.mark.parametrize(
    ("name", "module", "function", "mistake"), MISTAKES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_mistake_in_the_code_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, name: str, module: object, function: str, mistake: object
) -> None:
    target = TARGETS[name.partition("/")[0]]
    data = (CORPUS / name).read_bytes()
    target.run(data)

    monkeypatch.setattr(module, function, mistake)

    with pytest.raises(AssertionError):
        target.run(data)


def spin(data: bytes) -> None:
    """As long as a quadratic reader takes."""
    for _ in range(len(data)):
        sum(data)


def hog(data: bytes) -> None:
    """Memory of its own, each page in use: the heap may hold as much that an earlier test has freed, and then no peak rises."""
    with mmap.mmap(-1, len(data) * 50_000) as memory:
        for page in range(0, len(memory), mmap.PAGESIZE):
            memory[page] = 1


@pytest.mark.parametrize(
    ("check", "told"),
    [
        (spin, "took .* s"),
        pytest.param(
            hog,
            "of memory",
            marks=pytest.mark.skipif(not watch.PEAK.exists(), reason="only Linux forgets a peak"),
        ),
        (lambda _: Path(os.devnull).read_bytes(), "touched: open"),
        (lambda _: socket.socket().close(), "touched: socket"),
        (lambda _: etree.fromstring(b'<!DOCTYPE a SYSTEM "/no/such/file"><a/>', LOOSE), "touched: XML entity"),
    ],
)
def test_what_no_input_may_do_is_a_finding(
    check: Callable[[bytes], object], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "SECONDS", 0.01)
    with pytest.raises(AssertionError, match=told):
        watched(check, b"x" * 3_000)
