"""A RocketMQ HTTP service that never runs dry and costs next to nothing: `python -m bench.source`.

It speaks protocol.md 2 and 3 as far as a consumer sees it, and checks nothing: no signature, and of an ack only how many
handles it holds. What it delivers is said by the topic's name (`bench.topics`). It prints its port, and ends with its stdin.

`GET /counts/<topic>` tells what has happened on a topic. `GET /latencies/<topic>` ends a topic with a pace, and tells of each
message that was acked: its id, and when it was published and acked, in seconds of the monotonic clock.
"""

import asyncio
import json
import re
import time
from collections import deque
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from itertools import count
from urllib.parse import parse_qs

import uvloop

from bench import answers
from bench.answers import Answers
from bench.http import Connection
from bench.serving import serve
from bench.topics import Topic

TICK_SECONDS = 0.001
"""How often a topic with a pace publishes."""
IDLE_TICK_SECONDS = 0.1
"""How often one that has none looks whether a poll has waited long enough."""

_HANDLE = re.compile(rb"<ReceiptHandle>(?:<!\[CDATA\[)?(\w+)-")  # the id that it begins with


@dataclass(slots=True)
class Counts:
    """What has happened on a topic."""

    polls: int = 0
    """That were answered."""
    acks: int = 0
    """Requests."""
    delivered: int = 0
    acked: int = 0
    first_poll_at: float | None = None
    """When the first came, in seconds of the monotonic clock."""

    @property
    def calls(self) -> int:
        """Of the API."""
        return self.polls + self.acks

    def note_poll(self, delivered: int) -> None:
        """One was answered."""
        self.polls += 1
        self.delivered += delivered

    def note_ack(self, acked: int) -> None:
        """One was answered."""
        self.acks += 1
        self.acked += acked


class Endless:
    """A topic that has as many messages as are asked for."""

    def __init__(self, topic: Topic, numbers: "count[int]") -> None:
        self.counts = Counts()
        self._answers = Answers(topic)
        self._numbers = numbers

    def poll(self, connection: Connection, most: int, _wait_seconds: int, *, ordered: bool) -> None:
        """Answer at once."""
        self.counts.note_poll(most)
        connection.answer(self._answers.messages(most, next(self._numbers), ordered=ordered))

    def ack(self, content: bytes) -> None:
        """Everything in it is taken for good."""
        self.counts.note_ack(content.count(b"<ReceiptHandle>"))


@dataclass(eq=False, slots=True)
class HeldPoll:
    """One that waits for a message."""

    connection: Connection
    most: int
    ends_at: float


class Paced:
    """A topic that publishes so many messages a second, from the first poll on."""

    def __init__(self, topic: Topic, pace: int, numbers: "count[int]") -> None:
        self.counts = Counts()
        self.latencies: list[tuple[str, float, float]] = []
        """Of what was acked: message id, published at, acked at."""
        self._pace = pace
        self._answers = Answers(topic)
        self._numbers = numbers
        self._published = 0
        self._unfetched: deque[float] = deque()  # when each was published
        self._unacked: dict[str, float] = {}  # likewise, by message id
        self._held: deque[HeldPoll] = deque()
        self._begun = self._ended = False

    def poll(self, connection: Connection, most: int, wait_seconds: int, *, ordered: bool) -> None:  # noqa: ARG002 - it has no shards
        """Answer once there is a message, or when the time is over."""
        self._held.append(HeldPoll(connection, most, time.monotonic() + wait_seconds))
        if not self._begun:
            self._begun = True
            self._publish(time.monotonic())
        self._answer_polls()

    def ack(self, content: bytes) -> None:
        """Everything in it is taken for good, once."""
        now = time.monotonic()
        acked = [name for name in map(bytes.decode, _HANDLE.findall(content)) if name in self._unacked]
        self.counts.note_ack(len(acked))
        self.latencies += [(name, self._unacked.pop(name), now) for name in acked]

    def end(self) -> None:
        """Publish no more."""
        self._ended = True

    def _publish(self, began: float) -> None:
        now = time.monotonic()
        due = int((now - began) * self._pace)
        # A message is there from the moment that publishes it: a source that is late delays nobody's figures.
        self._unfetched.extend([now] * (due - self._published))
        self._published = due
        self._answer_polls()
        if not self._ended:
            asyncio.get_running_loop().call_later(TICK_SECONDS if self._pace else IDLE_TICK_SECONDS, self._publish, began)

    def _answer_polls(self) -> None:
        while self._held and self._unfetched:
            poll = self._held.popleft()
            if not poll.connection.is_closed:
                self._deliver(poll)
        now = time.monotonic()
        for poll in [poll for poll in self._held if poll.ends_at <= now]:
            self._held.remove(poll)
            self.counts.note_poll(0)
            poll.connection.answer(answers.no_message())

    def _deliver(self, poll: HeldPoll) -> None:
        size, number = min(poll.most, len(self._unfetched)), next(self._numbers)
        for position in range(size):
            self._unacked[answers.message_id(number, position)] = self._unfetched.popleft()
        self.counts.note_poll(size)
        poll.connection.answer(self._answers.messages(size, number))


class Source:
    """All topics."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._feeds: dict[str, Endless | Paced] = {}

    def feed(self, name: str) -> Endless | Paced:
        """Raises ValueError for a name that says nothing."""
        if name not in self._feeds:
            topic = Topic.parse(name)
            numbers, pace = self._numbers, topic.pace
            self._feeds[name] = Endless(topic, numbers) if pace is None else Paced(topic, pace, numbers)
        return self._feeds[name]

    def report(self, kind: str, name: str) -> bytes:
        """What is asked about a topic, as JSON."""
        feed = self.feed(name)
        asked: object = asdict(feed.counts)
        if kind == "latencies" and isinstance(feed, Paced):
            feed.end()
            asked = feed.latencies
        content = json.dumps(asked).encode()
        return answers.head("200 OK", len(content)) + content


class Consumer(Connection):
    """One connection of a consumer."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source

    def request(self, method: bytes, target: bytes, content: bytes) -> None:
        """See Connection."""
        path, _, query = target.decode().partition("?")
        _, kind, name, *_ = path.split("/")
        if kind != "topics":
            self.answer(self._source.report(kind, name))
            return
        feed = self._source.feed(name)
        if method == b"DELETE":
            feed.ack(content)
            self.answer(answers.acked(int(time.time())))
            return
        most, wait_seconds, ordered = _asked(query)
        if feed.counts.first_poll_at is None:
            feed.counts.first_poll_at = time.monotonic()
        feed.poll(self, most, wait_seconds, ordered=ordered)


@lru_cache
def _asked(query: str) -> tuple[int, int, bool]:
    """How many messages at most, how many seconds to wait for one, and whether order is kept (protocol.md 2.1)."""
    fields = parse_qs(query)
    wait_seconds = int(fields.get("waitseconds", ["0"])[0])
    return int(fields["numOfMessages"][0]), max(0, wait_seconds), fields.get("trans") == ["order"]


if __name__ == "__main__":
    uvloop.run(serve(partial(Consumer, Source())))
