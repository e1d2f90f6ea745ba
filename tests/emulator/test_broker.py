"""The broker with time in hand: points 25 to 28, 36 and 37 of protocol.md 10, retention, books."""

import random
from collections.abc import Callable

import pytest

from bridge.emulator.broker import MAX_DELAY, RETENTION, Broker
from bridge.emulator.errors import ServiceError
from bridge.emulator.queues import Subscription
from bridge.rocketmq.message import Message

START = 1_700_000_000_000
GROUP = "GID_a"
ORDERED = Subscription(ordered=True)
SECOND = 1000
DAY = 24 * 60 * 60 * SECOND


@pytest.fixture
def broker() -> Broker:
    return Broker(rng=random.Random(1))


def bodies(messages: list[Message]) -> list[str]:
    return [message.body for message in messages]


def publish_sharded(broker: Broker, *names: str) -> None:
    """Publish messages of these names, each to the shard of its first letter."""
    for name in names:
        broker.publish(START, "topicA", name, properties={"__SHARDINGKEY": name[0]})


def acker(broker: Broker) -> Callable[[int, Message], list[str]]:
    def ack(now: int, message: Message) -> list[str]:
        return [failure.code for failure in broker.ack(now, "topicA", GROUP, [message.receipt_handle])]

    return ack


@pytest.mark.parametrize(("subscription", "lease"), [(Subscription(), 300), (ORDERED, 60)])
def test_point_25_an_unacked_message_comes_again_at_next_consume_time(
    broker: Broker, subscription: Subscription, lease: int
) -> None:
    published = broker.publish(START, "topicA", "a")
    now = START
    handles = set()
    for times in range(1, 5):
        [message] = broker.consume(now, "topicA", GROUP, count=16, subscription=subscription)
        assert message.message_id == published.message_id
        assert message.consumed_times == times
        assert message.first_consume_time == START
        assert message.next_consume_time == now + lease * SECOND
        handles.add(message.receipt_handle)
        assert broker.next_change(now, "topicA", GROUP) == message.next_consume_time
        assert broker.consume(message.next_consume_time - 1, "topicA", GROUP, subscription=subscription) == []
        now = message.next_consume_time
    assert len(handles) == 4


@pytest.mark.parametrize(("subscription", "lease"), [(Subscription(), 300), (ORDERED, 60)])
def test_point_26_after_288_retries_a_message_is_a_dead_letter(broker: Broker, subscription: Subscription, lease: int) -> None:
    published = broker.publish(START, "topicA", "a")
    deliveries = []
    now = START
    for _ in range(289):
        deliveries += broker.consume(now, "topicA", GROUP, subscription=subscription)
        now += lease * SECOND
    assert [message.consumed_times for message in deliveries] == list(range(1, 290))
    assert broker.consume(now, "topicA", GROUP, subscription=subscription) == []
    assert broker.group_ids(now, "topicA", GROUP).dead_lettered == [published.message_id]
    book = broker.book(now, "topicA", GROUP)
    assert (book.dead_lettered, book.backlog) == (1, 0)
    assert acker(broker)(now, deliveries[-1]) == ["MessageNotExist"]
    assert broker.next_change(now, "topicA", GROUP) is None
    # A dead letter is kept for three days (protocol.md 6).
    assert broker.group_ids(now + RETENTION - 1, "topicA", GROUP).dead_lettered == [published.message_id]
    assert broker.group_ids(now + RETENTION, "topicA", GROUP).dead_lettered == []


def test_point_27_a_shard_waits_for_all_that_was_handed_out_from_it(broker: Broker) -> None:
    ack = acker(broker)
    publish_sharded(broker, "A1", "A2", "A3", "B1")
    a1, a2 = broker.consume(START, "topicA", GROUP, count=2, subscription=ORDERED)
    assert bodies([a1, a2]) == ["A1", "A2"]
    assert ack(START, a1) == []
    assert bodies(broker.consume(START, "topicA", GROUP, count=16, subscription=ORDERED)) == ["B1"]
    assert broker.consume(START, "topicA", GROUP, count=16, subscription=ORDERED) == []
    assert ack(START, a2) == []
    assert bodies(broker.consume(START, "topicA", GROUP, count=16, subscription=ORDERED)) == ["A3"]


def test_point_27_a_shard_comes_again_from_its_first_unacked_message(broker: Broker) -> None:
    ack = acker(broker)
    publish_sharded(broker, "A1", "A2", "A3")
    a1, _, a3 = broker.consume(START, "topicA", GROUP, count=3, subscription=ORDERED)
    ack(START, a1)
    ack(START, a3)
    publish_sharded(broker, "A4")
    assert broker.consume(START + 59_999, "topicA", GROUP, count=16, subscription=ORDERED) == []
    later = broker.consume(START + 60_000, "topicA", GROUP, count=16, subscription=ORDERED)
    assert [(message.body, message.consumed_times) for message in later] == [("A2", 2), ("A4", 1)]


def test_point_27_a_batch_mixes_shards_in_the_order_of_publishing(broker: Broker) -> None:
    names = ["A1", "B1", "A2", "C1", "B2", "A3"]
    publish_sharded(broker, *names)
    batch = broker.consume(START, "topicA", GROUP, count=5, subscription=ORDERED)
    assert bodies(batch) == names[:5]


def test_messages_without_a_sharding_key_share_one_shard(broker: Broker) -> None:
    for name in ("1", "2"):
        broker.publish(START, "topicA", name)
    [first] = broker.consume(START, "topicA", GROUP, subscription=ORDERED)
    assert broker.consume(START, "topicA", GROUP, subscription=ORDERED) == []
    acker(broker)(START, first)
    assert bodies(broker.consume(START, "topicA", GROUP, subscription=ORDERED)) == ["2"]


def test_a_filter_does_not_hold_a_shard_for_what_it_leaves_out(broker: Broker) -> None:
    for number, tag in enumerate(["x", "y", "x"]):
        broker.publish(START, "topicA", f"{tag}{number}", tag=tag)
    subscription = Subscription(frozenset({"x"}), ordered=True)
    assert bodies(broker.consume(START, "topicA", GROUP, count=16, subscription=subscription)) == ["x0", "x2"]


def test_a_message_is_leased_once_however_it_is_asked_for(broker: Broker) -> None:
    publish_sharded(broker, "A1", "A2", "B1")
    assert bodies(broker.consume(START, "topicA", GROUP)) == ["A1"]
    assert bodies(broker.consume(START, "topicA", GROUP, count=16, subscription=ORDERED)) == ["B1"]
    tagged = Subscription(frozenset({"none"}))
    assert broker.consume(START, "topicA", GROUP, subscription=tagged) == []
    assert bodies(broker.consume(START, "topicA", GROUP, count=16)) == ["A2"]
    assert broker.book(START, "topicA", GROUP).leased == 3


def test_point_28_instants_and_counts_are_present_in_every_kind_of_delivery(broker: Broker) -> None:
    broker.publish(START, "topicA", "a")
    broker.publish(START, "topicA", "half", properties={"__TransCheckT": "10"})
    now = START + 10 * SECOND
    deliveries = [
        *broker.consume(now, "topicA", "GID_unordered"),
        *broker.consume(now, "topicA", "GID_ordered", subscription=ORDERED),
        *broker.consume_half(now, "topicA"),
    ]
    seen = [
        (message.publish_time, message.first_consume_time, message.next_consume_time - now, message.consumed_times)
        for message in deliveries
    ]
    assert seen == [(START, now, 300_000, 1), (START, now, 60_000, 1), (START, now, 10_000, 1)]


def test_point_36_an_unresolved_half_message_is_offered_every_ten_seconds(broker: Broker) -> None:
    published = broker.publish(START, "topicA", "half", properties={"__TransCheckT": "30"})
    assert published.receipt_handle is not None
    assert broker.next_half_change(START, "topicA") == START + 30_000
    assert broker.consume_half(START + 29_999, "topicA") == []
    handles = [published.receipt_handle]
    now = START + 20_000
    for times in range(1, 4):
        now += 10_000
        [message] = broker.consume_half(now, "topicA")
        assert message.message_id == published.message_id
        assert message.consumed_times == times
        assert broker.consume_half(now + 9_999, "topicA") == []
        handles.append(message.receipt_handle)
    *old, current = handles
    failures = broker.resolve(now, "topicA", old, commit=True)
    assert [failure.code for failure in failures] == ["MessageNotExist"] * 3
    assert broker.resolve(now, "topicA", [current], commit=True) == []
    assert broker.consume_half(now + DAY, "topicA") == []
    assert bodies(broker.consume(now, "topicA", GROUP)) == ["half"]


def test_the_handle_of_a_half_publish_lives_until_the_first_check(broker: Broker) -> None:
    one, other = (broker.publish(START, "topicA", "half", properties={"__TransCheckT": "10"}) for _ in range(2))
    assert one.receipt_handle is not None
    assert other.receipt_handle is not None
    assert broker.resolve(START + 9_999, "topicA", [one.receipt_handle], commit=False) == []
    [failure] = broker.resolve(START + 10_000, "topicA", [other.receipt_handle], commit=False)
    assert failure.code == "MessageNotExist"


def test_a_half_message_is_dropped_after_a_day(broker: Broker) -> None:
    broker.publish(START, "topicA", "half", properties={"__TransCheckT": "10"})
    [message] = broker.consume_half(START + DAY - 1, "topicA")
    assert broker.books(START + DAY - 1)[0].half == 1
    assert broker.consume_half(START + DAY + 20_000, "topicA") == []
    assert broker.books(START + DAY)[0].half == 0
    [failure] = broker.resolve(START + DAY, "topicA", [message.receipt_handle], commit=True)
    assert failure.code == "ReceiptHandleError"
    assert broker.books(START + DAY)[0].published == 0


def test_a_committed_message_can_still_be_delayed(broker: Broker) -> None:
    properties = {"__TransCheckT": "10", "__STARTDELIVERTIME": str(START + 5_000)}
    published = broker.publish(START, "topicA", "half", properties=properties)
    assert published.receipt_handle is not None
    broker.resolve(START + 1, "topicA", [published.receipt_handle], commit=True)
    assert broker.consume(START + 4_999, "topicA", GROUP) == []
    assert bodies(broker.consume(START + 5_000, "topicA", GROUP)) == ["half"]


def test_point_37_a_delayed_message_is_delivered_at_its_time(broker: Broker) -> None:
    broker.publish(START, "topicA", "late", properties={"__STARTDELIVERTIME": str(START + 2_000)})
    broker.publish(START, "topicA", "early", properties={"__STARTDELIVERTIME": str(START + 1_000)})
    assert broker.books(START)[0].delayed == 2
    assert broker.consume(START + 999, "topicA", GROUP) == []
    assert broker.next_change(START + 999, "topicA", GROUP) == START + 1_000
    assert bodies(broker.consume(START + 1_000, "topicA", GROUP, count=16)) == ["early"]
    assert bodies(broker.consume(START + 2_000, "topicA", GROUP, count=16)) == ["late"]
    broker.publish(START, "topicA", "farthest", properties={"__STARTDELIVERTIME": str(START + MAX_DELAY)})
    with pytest.raises(ServiceError, match="InvalidArgument"):
        broker.publish(START, "topicA", "farther", properties={"__STARTDELIVERTIME": str(START + MAX_DELAY + 1)})


def test_a_new_group_sees_every_retained_message(broker: Broker) -> None:
    for number in range(3):
        broker.publish(START + number, "topicA", str(number))
    for message in broker.consume(START, "topicA", GROUP, count=2):
        acker(broker)(START, message)
    late = START + 1 + RETENTION  # the first two are too old by then
    assert bodies(broker.consume(late, "topicA", "GID_new", count=16)) == ["2"]


def test_a_message_is_forgotten_when_its_retention_ends(broker: Broker) -> None:
    publish_sharded(broker, "A1", "A2", "B1", "B2", "C1")
    last = START + RETENTION - 1
    acked, leased = broker.consume(last, "topicA", GROUP, count=2, subscription=ORDERED)
    acker(broker)(last, acked)
    end = START + RETENTION
    assert acker(broker)(end, leased) == ["ReceiptHandleError"]
    book = broker.book(end, "topicA", GROUP)
    assert (book.ready, book.leased, book.acked, book.expired) == (0, 0, 1, 4)
    assert broker.published_ids(end, "topicA") == []
    assert broker.consume(end + DAY, "topicA", GROUP, count=16, subscription=ORDERED) == []
    assert broker.books(end)[0].published == 5
    broker.publish(end, "topicA", "A3", properties={"__SHARDINGKEY": "A"})
    assert bodies(broker.consume(end, "topicA", GROUP, count=16, subscription=ORDERED)) == ["A3"]


def test_giving_back_undoes_a_delivery(broker: Broker) -> None:
    publish_sharded(broker, "A1", "A2")
    lost = broker.consume(START, "topicA", GROUP, count=2, subscription=ORDERED)
    broker.give_back(START, "topicA", GROUP, lost)
    again = broker.consume(START + 5, "topicA", GROUP, count=2, subscription=ORDERED)
    assert [(message.body, message.consumed_times) for message in again] == [("A1", 1), ("A2", 1)]
    assert again[0].first_consume_time == START + 5
    assert broker.consume(START + 60_000, "topicA", GROUP, count=2, subscription=ORDERED) == []
    for message in again:
        assert acker(broker)(START + 60_004, message) == []


def test_giving_back_a_half_message_offers_it_at_once(broker: Broker) -> None:
    broker.publish(START, "topicA", "half", properties={"__TransCheckT": "10"})
    now = START + 10_000
    broker.give_back(now, "topicA", None, broker.consume_half(now, "topicA"))
    [message] = broker.consume_half(now, "topicA", count=16)
    assert message.consumed_times == 1


def test_what_was_ready_first_goes_out_first(broker: Broker) -> None:
    broker.publish(START, "topicA", "redelivered")
    broker.consume(START, "topicA", GROUP)
    broker.publish(START + 1, "topicA", "new")
    assert bodies(broker.consume(START + 300_000, "topicA", GROUP, count=2)) == ["new", "redelivered"]


def test_leases_end_on_time_however_many_were_acked(broker: Broker) -> None:
    """Enough of them that the acked ones are swept out, and of two lengths so that their ends are mixed."""
    ack = acker(broker)
    ends = []
    for number in range(400):
        broker.publish(START, "topicA", str(number), properties={"__SHARDINGKEY": str(number)})
        [message] = broker.consume(START + number, "topicA", GROUP, subscription=ORDERED if number % 3 else Subscription())
        if number % 7:
            ack(START + number, message)
        else:
            ends.append(message.next_consume_time)
    seen = []
    while (end := broker.next_change(START + 400, "topicA", GROUP)) is not None:
        seen.append(end)
        [message] = broker.consume(end, "topicA", GROUP)
        ack(end, message)
    assert seen == sorted(ends)


def test_books_say_where_every_message_is(broker: Broker) -> None:
    ids = [broker.publish(START, "topicA", str(number)).message_id for number in range(4)]
    broker.publish(START, "topicA", "half", properties={"__TransCheckT": "10"})
    broker.publish(START, "topicB", "elsewhere", instance="MQ_INST_1")
    acked, _ = broker.consume(START, "topicA", GROUP, count=2)
    acker(broker)(START, acked)
    in_none, in_one = broker.books(START)
    assert (in_none.instance, in_none.topic, in_none.published, in_none.half) == (None, "topicA", 4, 1)
    assert (in_one.instance, in_one.topic, in_one.published) == ("MQ_INST_1", "topicB", 1)
    book = in_none.groups[GROUP]
    assert (book.ready, book.leased, book.acked, book.dead_lettered, book.backlog) == (2, 1, 1, 0, 3)
    found = broker.group_ids(START, "topicA", GROUP)
    assert (found.ready, found.leased, found.acked) == (ids[2:], [ids[1]], [ids[0]])
    assert broker.published_ids(START, "topicA") == ids


@pytest.mark.parametrize("group", ["group", "GIDx", "G", "", "GID_" + "x" * 61, "GID_a b", "GID_a\n"])
def test_a_name_that_no_group_can_have_is_refused(broker: Broker, group: str) -> None:
    with pytest.raises(ServiceError, match="InvalidArgument"):
        broker.consume(START, "topicA", group)


@pytest.mark.parametrize("group", ["GID_", "GID-a", "CID", "CIDx", "GID_" + "x" * 60])
def test_a_name_that_a_group_can_have_is_accepted(broker: Broker, group: str) -> None:
    assert broker.consume(START, "topicA", group) == []


@pytest.mark.timeout(60)
@pytest.mark.parametrize("ordered", [False, True])
def test_a_hundred_thousand_messages_cost_what_each_of_them_costs(broker: Broker, ordered: bool) -> None:  # noqa: FBT001
    """Anything that looked through all messages in each call would take hours here."""
    total = 100_000
    for number in range(total):
        broker.publish(START, "topicA", "x", tag="rare" if number % 100 == 99 else "frequent")
    rare = Subscription(frozenset({"rare"}), ordered=ordered)
    frequent = Subscription(frozenset({"frequent"}), ordered=ordered)
    for subscription, expected in ((rare, total // 100), (frequent, total - total // 100), (rare, 0)):
        acked = 0
        while messages := broker.consume(START, "topicA", GROUP, count=16, subscription=subscription):
            handles = [message.receipt_handle for message in messages]
            assert broker.ack(START, "topicA", GROUP, handles) == []
            acked += len(handles)
        assert acked == expected
    for _ in range(1000):
        assert broker.consume(START, "topicA", GROUP, subscription=frequent) == []
        assert broker.book(START, "topicA", GROUP).backlog == 0
