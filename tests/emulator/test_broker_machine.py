"""The broker against a model that is too simple to be wrong, over whatever calls hypothesis thinks of."""

import random
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.emulator.broker import Broker
from bridge.emulator.queues import Subscription
from bridge.rocketmq.message import Message

GROUPS = ("GID_a", "GID_b")
LEASE = 300_000
ORDERED_LEASE = 60_000
RETRIES = 3
TAGS = st.sampled_from([None, "x", "y"])
SHARDS = st.sampled_from(["", "A", "B"])
FILTERS = st.sampled_from([None, frozenset({"x"}), frozenset({"x", "y"})])


@dataclass
class Known:
    """What the model knows of one message in one group."""

    number: int
    tag: str | None
    shard: str
    acked: bool = False
    deliveries: int = 0
    leased_until: int = 0
    handle: str = ""

    def is_dead(self, now: int) -> bool:
        return self.deliveries > RETRIES and not self.is_leased(now) and not self.acked

    def is_leased(self, now: int) -> bool:
        return not self.acked and self.deliveries > 0 and now < self.leased_until

    def is_ready(self, now: int) -> bool:
        return not self.acked and not self.is_leased(now) and not self.is_dead(now)


class BrokerMachine(RuleBasedStateMachine):
    """Two groups consume one topic, each in any way, and are checked message by message."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_700_000_000_000
        self.broker = Broker(rng=random.Random(0), max_retries=RETRIES)
        self.known: dict[str, dict[str, Known]] = {group: {} for group in GROUPS}
        self.old_handles: dict[str, list[str]] = {group: [] for group in GROUPS}
        for group in GROUPS:
            self.broker.consume(self.now, "topicA", group)

    @rule(tag=TAGS, shard=SHARDS)
    def publish(self, tag: str | None, shard: str) -> None:
        properties = {"__SHARDINGKEY": shard} if shard else {}
        published = self.broker.publish(self.now, "topicA", "body", tag=tag, properties=properties)
        for known in self.known.values():
            known[published.message_id] = Known(len(known), tag, shard)

    @rule(milliseconds=st.sampled_from([1, 59_999, 60_000, 240_000, 300_000]))
    def let_time_pass(self, milliseconds: int) -> None:
        self.now += milliseconds

    @rule(group=st.sampled_from(GROUPS), tags=FILTERS, count=st.integers(1, 4))
    def consume(self, group: str, tags: frozenset[str] | None, count: int) -> None:
        ready = [known for known in self._wanted(group, tags) if known.is_ready(self.now)]
        messages = self.broker.consume(self.now, "topicA", group, count=count, subscription=Subscription(tags))
        assert len(messages) == min(count, len(ready))
        self._deliver(group, messages, tags, LEASE)

    @rule(group=st.sampled_from(GROUPS), tags=FILTERS, count=st.integers(1, 4))
    def consume_in_order(self, group: str, tags: frozenset[str] | None, count: int) -> None:
        wanted = self._wanted(group, tags)
        shut = {known.shard for known in wanted if known.is_leased(self.now)}
        expected = [known for known in wanted if known.is_ready(self.now) and known.shard not in shut]
        messages = self.broker.consume(self.now, "topicA", group, count=count, subscription=Subscription(tags, ordered=True))
        numbers = [self.known[group][message.message_id].number for message in messages]
        assert numbers == [known.number for known in expected[:count]]
        self._deliver(group, messages, tags, ORDERED_LEASE)

    @precondition(lambda self: any(known.handle for group in self.known.values() for known in group.values()))
    @rule(group=st.sampled_from(GROUPS), data=st.data())
    def ack(self, group: str, data: st.DataObject) -> None:
        delivered = [known for known in self.known[group].values() if known.handle]
        if not delivered:
            return
        chosen = data.draw(st.lists(st.sampled_from(delivered), unique_by=id, min_size=1, max_size=4))
        late = {known.handle for known in chosen if not known.is_leased(self.now)}
        failures = self.broker.ack(self.now, "topicA", group, [known.handle for known in chosen])
        assert {failure.receipt_handle for failure in failures} == late
        assert all(failure.code == "MessageNotExist" for failure in failures)
        for known in chosen:
            known.acked = known.acked or known.handle not in late

    @precondition(lambda self: any(self.old_handles.values()))
    @rule(data=st.data())
    def ack_with_a_superseded_handle(self, data: st.DataObject) -> None:
        group = data.draw(st.sampled_from([group for group in GROUPS if self.old_handles[group]]))
        handle = data.draw(st.sampled_from(self.old_handles[group]))
        [failure] = self.broker.ack(self.now, "topicA", group, [handle])
        assert failure.code == "MessageNotExist"

    @rule(group=st.sampled_from(GROUPS), count=st.integers(1, 4), ordered=st.booleans())
    def poll_for_a_client_that_has_gone(self, group: str, count: int, ordered: bool) -> None:  # noqa: FBT001
        messages = self.broker.consume(self.now, "topicA", group, count=count, subscription=Subscription(ordered=ordered))
        self.broker.give_back(self.now, "topicA", group, messages)

    @invariant()
    def the_books_agree(self) -> None:
        for group, known in self.known.items():
            book = self.broker.book(self.now, "topicA", group)
            assert book.ready == sum(message.is_ready(self.now) for message in known.values())
            assert book.leased == sum(message.is_leased(self.now) for message in known.values())
            assert book.acked == sum(message.acked for message in known.values())
            assert book.dead_lettered == sum(message.is_dead(self.now) for message in known.values())

    @invariant()
    def the_next_change_is_the_next_end_of_a_lease(self) -> None:
        for group, known in self.known.items():
            ends = [message.leased_until for message in known.values() if message.is_leased(self.now)]
            assert self.broker.next_change(self.now, "topicA", group) == min(ends, default=None)

    def _wanted(self, group: str, tags: frozenset[str] | None) -> list[Known]:
        return [known for known in self.known[group].values() if tags is None or known.tag in tags]

    def _deliver(self, group: str, messages: list[Message], tags: frozenset[str] | None, lease: int) -> None:
        for message in messages:
            known = self.known[group][message.message_id]
            assert known.is_ready(self.now)
            assert tags is None or known.tag in tags
            known.deliveries += 1
            assert message.consumed_times == known.deliveries
            assert message.next_consume_time == self.now + lease
            if known.handle:
                self.old_handles[group].append(known.handle)
            assert message.receipt_handle != known.handle
            known.handle = message.receipt_handle
            known.leased_until = message.next_consume_time


TestBrokerMachine = BrokerMachine.TestCase
TestBrokerMachine.settings = settings(max_examples=150, stateful_step_count=50)
