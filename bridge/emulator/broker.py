"""The broker: topics, groups, leases, shards, retries, transactions; without a clock, a socket or chance of its own."""

import hashlib
import random
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from bridge.emulator.books import Backlog, Call, GroupBook, GroupIds, TopicBook
from bridge.emulator.errors import ServiceError
from bridge.emulator.group import Group
from bridge.emulator.handles import parse_handle
from bridge.emulator.names import check_group, check_topic
from bridge.emulator.properties import check_properties
from bridge.emulator.queues import Subscription
from bridge.emulator.stored import AckFailure, State, StoredMessage
from bridge.emulator.topic import Topic
from bridge.rocketmq.message import MAX_BODY_BYTES, MAX_RETRIES, START_DELIVER_TIME, TRANSACTION_CHECK, Message

MAX_SPECIAL_BODY_BYTES = 64 * 1024
"""The largest body of a delayed or transactional message, in bytes of UTF-8 (protocol.md 9)."""

MAX_DELAY = 40 * 24 * 60 * 60 * 1000
"""How far ahead a delayed message may lie, in milliseconds (protocol.md 9)."""

RETENTION = 3 * 24 * 60 * 60 * 1000
"""How long a message is kept, in milliseconds (protocol.md 9)."""

_DIGITS = re.compile("[0-9]{1,15}")

_CHECK_SECONDS = range(10, 301)

_EVERYTHING = Subscription()


@dataclass(frozen=True, slots=True)
class Published:
    """The answer to a publish (protocol.md 4.2)."""

    message_id: str
    body_md5: str
    receipt_handle: str | None = None
    """Resolves a half message; None for any other."""


class Broker:
    """A local ApsaraMQ for RocketMQ.

    `now` is always in milliseconds since the epoch; `instance` is None for an instance without a namespace. Ids and
    handles are drawn from `rng`. `topics` names the topics that exist; None lets every topic exist from its first use.
    `invisible`, `ordered_invisible` (the leases) and `retention` are in milliseconds.

    Every method raises `ServiceError` for what the service would refuse.
    """

    def __init__(
        self,
        *,
        rng: random.Random,
        topics: Collection[str] | None = None,
        invisible: int = 300_000,
        ordered_invisible: int = 60_000,
        retention: int = RETENTION,
        max_retries: int = MAX_RETRIES,
    ) -> None:
        self._rng = rng
        self._names = None if topics is None else frozenset(topics)
        self._invisible = invisible
        self._ordered_invisible = ordered_invisible
        self._retention = retention
        self._max_retries = max_retries
        self._topics: dict[tuple[str | None, str], Topic] = {}
        self.calls: Counter[Call] = Counter()
        """How often each kind of call was made; counted by whoever takes the calls."""

    def publish(
        self,
        now: int,
        topic: str,
        body: str,
        *,
        instance: str | None = None,
        tag: str | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> Published:
        """Accept a message; the reserved properties make it delayed, transactional or sharded (protocol.md 5.3).

        Raises `InvalidArgument` beyond the limits of protocol.md 9, and `UnicodeEncodeError` for a lone surrogate.
        """
        place = self._topic(now, instance, topic)
        properties = dict(properties or {})
        check_properties(properties)
        if tag is not None and "|" in tag:
            raise ServiceError("InvalidArgument", "A message has one tag, without a | in it.")
        deliver_at = _deliver_at(now, properties)
        check_after = _check_after(properties)
        content = body.encode()
        limit = MAX_BODY_BYTES if check_after is None and deliver_at <= now else MAX_SPECIAL_BODY_BYTES
        if len(content) > limit:
            raise ServiceError("InvalidArgument", f"The message body is longer than {limit} bytes.")
        message = StoredMessage(
            message_id=f"{self._rng.getrandbits(128):032X}",
            body=body,
            body_md5=hashlib.md5(content, usedforsecurity=False).hexdigest().upper(),
            tag=tag or None,
            properties=properties,
            publish_time=now,
        )
        handle = None
        if check_after is None:
            place.add(now, message, deliver_at=deliver_at)
        else:
            handle = place.halves.add(now, message, check_after=check_after)
        return Published(message.message_id, message.body_md5, handle)

    def consume(
        self,
        now: int,
        topic: str,
        group: str,
        *,
        instance: str | None = None,
        count: int = 1,
        subscription: Subscription = _EVERYTHING,
    ) -> list[Message]:
        """Deliver what is ready, `count` messages at most, for the length of a lease; possibly nothing."""
        lease = self._ordered_invisible if subscription.ordered else self._invisible
        return self._group(now, instance, topic, group).take(now, subscription, count=count, lease=lease)

    def consume_half(self, now: int, topic: str, *, instance: str | None = None, count: int = 1) -> list[Message]:
        """Offer a producer the half messages that it should have resolved (protocol.md 4.3).

        Publishing names no producer group, so every group of producers of a topic is asked about all of them.
        """
        return self._topic(now, instance, topic).halves.pop(now, count=count)

    def give_back(
        self, now: int, topic: str, group: str | None, messages: Sequence[Message], *, instance: str | None = None
    ) -> None:
        """Undo a delivery that never left the house; without a group, one of half messages."""
        place = self._topic(now, instance, topic)
        for message in messages:
            if group is None:
                place.halves.give_back(message.message_id, now)
            else:
                place.group(group).give_back(message.message_id)

    def ack(
        self, now: int, topic: str, group: str, handles: Collection[str], *, instance: str | None = None
    ) -> list[AckFailure]:
        """Settle deliveries; returns the handles that settled nothing, with the reason (protocol.md 6)."""
        known = group in self._topic(now, instance, topic).groups  # an ack doesn't bring a group into being
        place = self._group(now, instance, topic, group) if known else None
        failures = []
        for text in dict.fromkeys(handles):
            handle = parse_handle(text)
            refusal = "ReceiptHandleError" if place is None or handle is None else place.ack(now, handle)
            if refusal is not None:
                failures.append(AckFailure(refusal, text))
        return failures

    def resolve(
        self, now: int, topic: str, handles: Collection[str], *, commit: bool, instance: str | None = None
    ) -> list[AckFailure]:
        """Commit or roll back half messages; returns the handles that resolved nothing, with the reason."""
        place = self._topic(now, instance, topic)
        failures = []
        for text in dict.fromkeys(handles):
            handle = parse_handle(text)
            outcome = "ReceiptHandleError" if handle is None else place.halves.resolve(now, handle)
            if isinstance(outcome, str):
                failures.append(AckFailure(outcome, text))
            elif commit:
                place.add(now, outcome, deliver_at=_deliver_at(now, outcome.properties))
        return failures

    def next_change(self, now: int, topic: str, group: str, *, instance: str | None = None) -> int | None:
        """When something may next become deliverable to a group by the passing of time alone; None for never."""
        self._group(now, instance, topic, group)
        return self._topic(now, instance, topic).next_change(group)

    def next_half_change(self, now: int, topic: str, *, instance: str | None = None) -> int | None:
        """When a half message is next to be offered to its producer; None for never."""
        return self._topic(now, instance, topic).halves.next_check()

    def books(self, now: int) -> list[TopicBook]:
        """Every topic's numbers."""
        books = []
        for instance, name in list(self._topics):
            place = self._topic(now, instance, name)
            books.append(
                TopicBook(
                    instance=instance,
                    topic=name,
                    published=place.published,
                    delayed=place.delayed,
                    half=place.halves.open,
                    groups={group: self.book(now, name, group, instance=instance) for group in place.groups},
                )
            )
        return books

    def book(self, now: int, topic: str, group: str, *, instance: str | None = None) -> GroupBook:
        """One group's numbers. A group that nobody has used yet comes into being, with everything ready."""
        place = self._group(now, instance, topic, group)
        return GroupBook(
            ready=place.counts[State.READY],
            leased=place.counts[State.LEASED],
            acked=place.counts[State.ACKED],
            dead_lettered=place.counts[State.DEAD],
            expired=place.expired,
        )

    def backlogs(self, now: int, group: str, *, instance: str | None = None) -> dict[str, Backlog]:
        """How far a group is behind, by topic; no topic that it has never polled is among them."""
        topics = [name for (place, name), topic in self._topics.items() if place == instance and group in topic.groups]
        return {topic: self._group(now, instance, topic, group).backlog() for topic in topics}

    def group_ids(self, now: int, topic: str, group: str, *, instance: str | None = None) -> GroupIds:
        """One group's retained messages."""
        place = self._group(now, instance, topic, group)
        return GroupIds(
            ready=list(place.ids(State.READY)),
            leased=list(place.ids(State.LEASED)),
            acked=list(place.ids(State.ACKED)),
            dead_lettered=list(place.ids(State.DEAD)),
        )

    def published_ids(self, now: int, topic: str, *, instance: str | None = None) -> list[str]:
        """One topic's retained messages, oldest first; neither delayed nor half messages are among them yet."""
        return list(self._topic(now, instance, topic).ids())

    def _topic(self, now: int, instance: str | None, name: str) -> Topic:
        topic = self._topics.get((instance, name))
        if topic is None:
            check_topic(name)
            if self._names is not None and name not in self._names:
                raise ServiceError("TopicNotExist")
            topic = self._topics[instance, name] = Topic(
                rng=self._rng, retention=self._retention, max_retries=self._max_retries
            )
        topic.advance(now)
        return topic

    def _group(self, now: int, instance: str | None, topic: str, name: str) -> Group:
        place = self._topic(now, instance, topic)
        if name not in place.groups:
            check_group(name)
        group = place.group(name)
        group.advance(now)
        return group


def _deliver_at(now: int, properties: Mapping[str, str]) -> int:
    text = properties.get(START_DELIVER_TIME)
    if text is None:
        return now
    if not _DIGITS.fullmatch(text) or int(text) > now + MAX_DELAY:
        raise ServiceError("InvalidArgument", f"{START_DELIVER_TIME} is milliseconds since the epoch, 40 days ahead at most.")
    return int(text)


def _check_after(properties: Mapping[str, str]) -> int | None:
    text = properties.get(TRANSACTION_CHECK)
    if text is None:
        return None
    if not _DIGITS.fullmatch(text) or int(text) not in _CHECK_SECONDS:
        raise ServiceError("InvalidArgument", f"{TRANSACTION_CHECK} is 10 to 300 seconds.")
    return int(text) * 1000
