"""What the source answers, put together beforehand but for what must differ from one answer to the next.

The messages of one answer share one number, which stands wherever an id does. So an answer is its fixed pieces, joined by that
number: one call makes 16 messages with ids, receipt handles and keys of their own.
"""

import hashlib
import secrets
import time
from collections.abc import Sequence
from email.utils import formatdate
from functools import lru_cache
from xml.sax.saxutils import escape

from bench.topics import Topic

MAX_MESSAGES = 16
LEASE_MILLISECONDS, ORDERED_LEASE_MILLISECONDS = 300_000, 60_000
"""protocol.md 6: five minutes, and one where order is kept."""
SHARDS, SHARDS_OF_AN_ANSWER = 256, 4

_MARK = b"\0"
_RUN = secrets.token_hex(8).upper()
"""The first half of every message id, so that no two runs share one."""
_NUMBER_DIGITS = 15


def number(answer: int) -> bytes:
    """What is put between the pieces of an answer: the middle of 32 hexadecimal digits, between _RUN and the position."""
    return b"%0*X" % (_NUMBER_DIGITS, answer)


class Answers:
    """The answers to the polls of one topic. Good for a second, as they carry dates; the caller renews them."""

    def __init__(self, topic: Topic) -> None:
        kind_quotes = {'"': "&quot;"} if topic.kind == "quot" else {}
        self._bodies: list[bytes] = []
        self._digests: list[str] = []
        for position in range(MAX_MESSAGES):
            body = topic.body(position)
            self._bodies.append(escape(body, kind_quotes).encode())
            self._digests.append(hashlib.md5(body.encode(), usedforsecurity=False).hexdigest().upper())
        self._pieces: dict[tuple[int, int | None], tuple[int, Sequence[bytes]]] = {}

    def messages(self, count: int, answer: int, *, ordered: bool = False) -> bytes:
        """A whole answer of 1 to 16 messages. Ordered, they belong to four shards, which come again 64 answers later.

        By then they have been acked: no consumer here holds as many, so none is kept back as protocol.md 6 has it.
        """
        shards = answer % (SHARDS // SHARDS_OF_AN_ANSWER) if ordered else None
        second, pieces = self._pieces.get((count, shards), (0, ()))
        now = int(time.time())
        if second != now:
            pieces = self._make(count, shards, now)
            self._pieces[count, shards] = now, pieces
        return number(answer).join(pieces)

    def _make(self, count: int, shards: int | None, now: int) -> Sequence[bytes]:
        content = (
            b'<?xml version="1.0" ?>\n<Messages xmlns="http://mq.aliyuncs.com/doc/v1">\n'
            + b"".join(self._message(position, shards, now * 1000) for position in range(count))
            + b"</Messages>"
        )
        length = len(content) + content.count(_MARK) * (_NUMBER_DIGITS - len(_MARK))
        return (head("200 OK", length) + content).split(_MARK)

    def _message(self, position: int, shards: int | None, now: int) -> bytes:
        unique = f"\0{position:X}"
        lease = LEASE_MILLISECONDS if shards is None else ORDERED_LEASE_MILLISECONDS
        shard = (
            "" if shards is None else f"__SHARDINGKEY:shard-{shards * SHARDS_OF_AN_ANSWER + position % SHARDS_OF_AN_ANSWER}|"
        )
        before = (
            f"<Message><MessageId>{_RUN}{unique}</MessageId><MessageBodyMD5>{self._digests[position]}</MessageBodyMD5>"
            "<MessageBody>"
        )
        after = (
            f"</MessageBody><ReceiptHandle>{_RUN}{unique}-MTI5NzE0MzQ2NzUzODI4MTc3OTQ6MTU3MTc0MzIwMjQ2Mw==</ReceiptHandle>"
            f"<PublishTime>{now}</PublishTime><FirstConsumeTime>{now}</FirstConsumeTime>"
            f"<NextConsumeTime>{now + lease}</NextConsumeTime><ConsumedTimes>1</ConsumedTimes><MessageTag>paid</MessageTag>"
            f"<Properties>KEYS:order-{unique}|region:cn-hangzhou|{shard}__BORNHOST:30.5.0.1|</Properties></Message>\n"
        )
        return before.encode() + self._bodies[position] + after.encode()


def message_id(answer: int, position: int) -> str:
    """The id of a message of an answer."""
    return f"{_RUN}{number(answer).decode()}{position:X}"


def head(status: str, length: int | None) -> bytes:
    """Status line and headers, as protocol.md 1.5 and 10 (point 11) have them. `length` is in bytes; None for no content."""
    content = "" if length is None else f"Content-Type: text/xml;charset=utf-8\r\nContent-Length: {length}\r\n"
    return (
        f"HTTP/1.1 {status}\r\nDate: {formatdate(usegmt=True)}\r\n{content}Connection: keep-alive\r\n"
        f"x-mq-request-id: {secrets.token_hex(12).upper()}\r\nx-mq-version: 2015-06-06\r\n\r\n"
    ).encode()


@lru_cache(1)
def acked(_now: int) -> bytes:
    """The answer to an ack, all of whose handles were good (protocol.md 3.2); `_now`, in seconds, as it carries the date."""
    return head("204 No Content", None)


def no_message() -> bytes:
    """The answer to a poll that found nothing (protocol.md 2.5)."""
    content = (
        b'<?xml version="1.0" ?>\n<Error xmlns="http://mq.aliyuncs.com/doc/v1"><Code>MessageNotExist</Code>'
        b"<Message>Message not exist.</Message><RequestId>5DAEE3FF463541AD6E0322EB</RequestId>"
        b"<HostId>http://localhost</HostId></Error>"
    )
    return head("404 Not Found", len(content)) + content
