"""Whatever an answer of the service holds, it is read or classed; and what is read agrees with what others read."""

import re
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ParamSpec, TypeVar, cast

from bridge.delivery.lease import BrokerClock
from bridge.errors import BridgeError
from bridge.event import Origin
from bridge.rocketmq.client import Client, Polled
from bridge.rocketmq.codec import Subscription, read_ack, read_poll, read_publish
from bridge.rocketmq.conversion import Conversion
from bridge.rocketmq.damage import Damaged
from bridge.rocketmq.message import Message
from bridge.rocketmq.source import RocketMQSource
from fuzz.reference import Element, parsed
from rocketmq.documents import batch, element, expected

P = ParamSpec("P")
T = TypeVar("T")
SUBSCRIPTION = Subscription(topic="topicA", group="GID_a")
HANDLES = tuple(expected(number).receipt_handle for number in (1, 2, 3))
MAX_ERROR = 1000
"""The longest text of an error, in characters."""

WORDS = [
    *(f"<{slash}{name}>" for name in ("Message", "Messages", "Error", "Errors", "Code", "ErrorCode") for slash in ("", "/")),
    *(f"<{slash}{name}>" for name in ("MessageId", "MessageBody", "ReceiptHandle", "NextConsumeTime") for slash in ("", "/")),
    *(f"<{slash}{name}>" for name in ("MessageTag", "Properties", "MessageBodyMD5", "a:b") for slash in ("", "/")),
    *("<Message/>", "<Message ", "MessageNotExist", "ReceiptHandleError", "QpsLimitExceeded", "InternalError", *HANDLES),
    *(f'<?xml version="1.0" encoding="{name}"?>' for name in ("utf-8", "utf-16", "utf-7", "ucs-4", "iso-8859-1", "x")),
    *('<?xml version="1.0" standalone="yes"?>', ' xmlns="http://mq.aliyuncs.com/doc/v1"', ' xmlns:a="b"', ' a="', "xml:space"),
    *("<!DOCTYPE a [", "<!DOCTYPE Messages SYSTEM ", "<!ENTITY b ", "<!ENTITY % b SYSTEM ", "<!ATTLIST a b CDATA ", "]>"),
    *('"file:///etc/hostname"', '"http://127.0.0.1:9/"', "%b;", "&b;", "&amp;", "&lt;", "&#", ";", "<!--", "-->", "<![CDATA["),
    *("]]>", "<?a ", "?>", "&#0;", "&#1;", "&#x1F;", "&#13;", "&#xD83D;", "&#xDE00;", "&#xFDD0;", "&#xFDD1;", "&#65535;"),
    *("&#x110000;", "&#0000000000001;", "&#x0000000FDD0;", "&#x0000000FDD1;", "\ufdd0", "\ufdd1", "\ufdd0d800\ufdd1"),
    *("999999999999999999", "-1", "a:b|", "\x9b", "\u2028", "\u202e"),
]
BYTES = [b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xef\xbf\xbe", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\0"]
TOKENS = [*(word.encode() for word in WORDS), *BYTES]


def _classed(read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """What was read; None for an error of ours, whose text must be fit for one line of a log, and for a terminal."""
    try:
        return read(*args, **kwargs)
    except BridgeError as problem:
        text = str(problem)
        assert text.isprintable(), ascii(text)
        assert 0 < len(text) <= MAX_ERROR, len(text)
        return None


# ---- polls -----------------------------------------------------------------------------------------------------------


def poll(document: bytes) -> None:
    """An answer to a poll."""
    for status in (404, 503):
        assert not _classed(read_poll, status, document)
    messages = _classed(read_poll, 200, document) or ()
    for message in messages:
        if isinstance(message, Damaged):
            assert message.reason
            assert message.raw
        else:
            assert message.message_id
            assert message.receipt_handle
            assert message.consumed_times >= 1
    _can_be_acked(messages)
    _become_deliveries(messages)
    _no_handle_is_lost(document, messages)
    _expat_agrees(document, messages)


def _can_be_acked(messages: Sequence[Message | Damaged]) -> None:
    """One ack carries all the handles as they are, and none spoils it for the others."""
    handles = [message.receipt_handle for message in messages if message.receipt_handle]
    root = parsed(SUBSCRIPTION.ack(handles).body)
    assert root
    assert [child.text for child in root.children] == handles


def _become_deliveries(messages: Sequence[Message | Damaged]) -> None:
    class Answering:
        async def poll(self, _: Subscription, *, max_messages: int, wait_seconds: int) -> Polled:
            return Polled(messages=tuple(messages), sent_at=max_messages, received_at=wait_seconds)

    conversion = Conversion(origin=Origin(topic="topicA", group="GID_a"), source="/rocketmq/topicA", type_="t", strict_md5=True)
    source = RocketMQSource(
        cast(Client, Answering()),
        SUBSCRIPTION,
        conversion,
        clock=BrokerClock(),
        monotonic=lambda: 0.0,
        wall_clock=lambda: 1_571_742_900.0,
    )
    deliveries = _result(source.receive(16, 30)).deliveries
    assert [delivery.receipt for delivery in deliveries] == [message.receipt_handle or "" for message in messages]
    for delivery in deliveries:
        assert "TypeError" not in (delivery.damage or "")
        assert delivery.event.structured()


def _result(coroutine: Coroutine[Any, Any, T]) -> T:
    """What a coroutine that never waits returns. An event loop would open sockets, which is watched for."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return cast(T, end.value)
    raise AssertionError("it waits")


_BLOCK = re.compile(rb"<Message>(?:(?!<[!?]|<Message[\s/>]|</Message\s).)*?</Message>", re.DOTALL)
_HANDLE = re.compile(rb"<ReceiptHandle>([0-9A-Za-z-]{1,200})</ReceiptHandle>")
_NOTHING_ELSE = re.compile(rb'(?:<\?xml version="1.0" \?>)?\s*<Messages>[^<]*(?:</Messages>)?[^<]*')


def _no_handle_is_lost(document: bytes, messages: Sequence[Message | Damaged]) -> None:
    """What stands in plain sight is recovered, whatever stands around it."""
    if _NOTHING_ELSE.fullmatch(_BLOCK.sub(b"", document)):
        blocks = [block for block in _BLOCK.findall(document) if block.count(b"ReceiptHandle") == 2]
        handles = {handle.decode() for block in blocks for handle in _HANDLE.findall(block)}
        assert handles <= {message.receipt_handle for message in messages}


def _expat_agrees(document: bytes, messages: Sequence[Message | Damaged]) -> None:
    root = parsed(document)
    if root is None or root.name != "Messages":
        return
    elements = [child for child in root.children if child.name == "Message"]
    if len(elements) == len(messages):
        for theirs, ours in zip(elements, messages, strict=True):
            if isinstance(ours, Message):
                texts = theirs.texts()
                assert (ours.message_id, ours.body, ours.receipt_handle) == (
                    texts["MessageId"], texts["MessageBody"], texts["ReceiptHandle"],
                )  # fmt: skip


def neighbours(damaged: bytes) -> None:
    """Anything at all between two messages, which must come out as they are."""
    document = batch(element(1), damaged, element(3))
    messages = read_poll(200, document)
    assert (messages[0], messages[-1]) == (expected(1), expected(3))


# ---- acks and publishes ----------------------------------------------------------------------------------------------


def ack(document: bytes) -> None:
    """An answer to an ack."""
    for status in (200, 204, 400, 404, 503):
        failures = _classed(read_ack, status, document, HANDLES)
        if failures is None:
            continue
        failed = [failure.receipt_handle for failure in failures]
        assert len(failed) == len(set(failed))
        assert set(failed) <= set(HANDLES)
        for failure in failures:
            assert 0 < len(failure.code) <= MAX_ERROR
            assert failure.code.isprintable()
            assert len(failure.message) <= MAX_ERROR
            assert not failure.message or failure.message.isprintable()
        root = parsed(document)
        if root is not None and root.name == "Errors":
            assert set(failed) == _unresolved(root)


def _unresolved(root: Element) -> set[str]:
    """Those that the answer names; all, when it names none, or one that isn't among them (protocol.md 3.4)."""
    named = {item.texts().get("ReceiptHandle", "").strip() for item in root.children}
    return named if named and named <= set(HANDLES) else set(HANDLES)


def publish(document: bytes) -> None:
    """An answer to a publish."""
    for status in (200, 201, 404, 503):
        published = _classed(read_publish, status, document)
        if published:
            assert status < 300
            assert published.message_id


# ---- growth ----------------------------------------------------------------------------------------------------------

GROWN = 64 * 1024
"""In bytes."""


def grown(seed: bytes) -> bytes:
    """A long document out of a short one: what stands between the first and the last U+001E is repeated."""
    head, _, rest = seed.partition(b"\x1e")
    middle, _, tail = rest.rpartition(b"\x1e")
    return head + middle * (GROWN // max(1, len(middle))) + tail


def growth(document: bytes) -> None:
    """A long document of any kind."""
    _classed(read_poll, 200, document)
    _classed(read_ack, 404, document, HANDLES)
    _classed(read_publish, 201, document)
    neighbours(document)
