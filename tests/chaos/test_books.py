"""The books are only worth something if they don't balance when they should not."""

from collections.abc import Callable

import pytest

from chaos.books import balance
from chaos.journal import Copy, Exit, Happened, Journal, Place

LEASE_SECONDS = 6.0


def healthy() -> Journal:
    """Three messages of one shard, each delivered at a full second, at both sinks half a second later, acked at once."""
    journal = Journal()
    for number, message_id in enumerate("ABC"):
        journal.published[message_id] = Place("shard", number)
        journal.delivered[message_id] = [float(number)]
        journal.acked[message_id] = number + 0.6
    for sink in ("kafka", "webhook"):
        journal.sinks[sink] = [Copy(message_id, number + 0.5, "replica-1.1") for number, message_id in enumerate("ABC")]
    journal.exits.append(Exit(process="replica-1.1", code=0, seconds=2.0))
    return journal


def violations(journal: Journal) -> list[str]:
    return balance(journal, ordered=True, lease_seconds=LEASE_SECONDS, most_deliveries=4, grace_seconds=10.0).violations


def _lose_at_a_sink(journal: Journal) -> None:
    del journal.sinks["webhook"][1]


def _leave_unacked(journal: Journal) -> None:
    del journal.acked["B"]


def _invent(journal: Journal) -> None:
    journal.sinks["kafka"].append(Copy("X", 9.0, "replica-1.1"))


def _ack_too_early(journal: Journal) -> None:
    journal.acked["B"] = 1.4


def _overtake(journal: Journal) -> None:
    copies = journal.sinks["kafka"]
    copies[0], copies[1] = copies[1], copies[0]


def _write_twice(journal: Journal) -> None:
    journal.sinks["kafka"].append(Copy("C", 9.0, "replica-1.1"))


def _write_twice_for_lack_of_acks(journal: Journal) -> None:
    _write_twice(journal)
    journal.happened.append(Happened(victim="emulator", kind="ack_answer_lost", began=2.0, ended=3.0))


def _write_twice_after_a_drain(journal: Journal) -> None:
    journal.sinks["kafka"].append(Copy("C", 9.0, "replica-1.2"))
    journal.happened.append(Happened(victim="replica 1", kind="SIGTERM", process="replica-1.1", began=2.0, ended=3.0))


def _write_twice_without_redis(journal: Journal) -> None:
    journal.sinks["kafka"].append(Copy("C", 9.0, "replica-1.2"))
    journal.happened.append(Happened(victim="redis", kind="SIGSTOP", began=2.0, ended=9.0))


def _deliver_twice(journal: Journal) -> None:
    journal.delivered["A"].append(7.0)


def _deliver_for_ever(journal: Journal) -> None:
    journal.delivered["A"] = [0.0, 6.0, 12.0, 18.0, 24.0]
    journal.happened.append(Happened(victim="kafka", kind="SIGSTOP", began=0.0, ended=30.0))


def _drain_too_long(journal: Journal) -> None:
    journal.exits.append(Exit(process="replica-1.1", code=0, seconds=11.0))


def _crash_in_the_drain(journal: Journal) -> None:
    journal.exits.append(Exit(process="replica-1.1", code=1, seconds=1.0))


def _see_a_fault(journal: Journal) -> None:
    journal.faults.append("replica-1.1 ended by itself")


def test_they_balance_when_all_is_well() -> None:
    assert violations(healthy()) == []


@pytest.mark.parametrize(
    ("spoil", "violation"),
    [
        (_lose_at_a_sink, "1 published and not at webhook: B"),
        (_leave_unacked, "1 published and not acked: B"),
        (_invent, "1 at kafka and never published: X"),
        (_ack_too_early, "acked before it was durable at kafka: B"),
        (_overtake, "1 inversions at kafka: shard: 0 after 1"),
        (_write_twice, "1 duplicates at kafka without a cause: C by replica-1.1"),
        (_write_twice_for_lack_of_acks, "1 duplicates at kafka without a cause: C by replica-1.1"),
        (_write_twice_after_a_drain, "1 duplicates at kafka without a cause: C by replica-1.1"),
        (_write_twice_without_redis, "1 duplicates at kafka without a cause: C by replica-1.1"),
        (_deliver_twice, "1 redeliveries without a cause: A after 7.00 s"),
        (_deliver_for_ever, "a message was delivered 5 times, and 4 are allowed"),
        (_drain_too_long, "replica-1.1 was told to end: exit code 0 after 11.0 s"),
        (_crash_in_the_drain, "replica-1.1 was told to end: exit code 1 after 1.0 s"),
        (_see_a_fault, "replica-1.1 ended by itself"),
    ],
)
def test_they_name(spoil: Callable[[Journal], None], violation: str) -> None:
    journal = healthy()
    spoil(journal)
    assert any(violation in found for found in violations(journal))


@pytest.mark.parametrize(
    ("happened", "second_writer"),
    [
        (Happened(victim="replica 1", kind="kill -9", process="replica-1.1", began=2.55, ended=4.0), "replica-2.1"),
        (Happened(victim="replica 1", kind="SIGSTOP", process="replica-1.1", began=2.55, ended=8.5), "replica-2.1"),
        (Happened(victim="emulator", kind="ack_answer_lost", began=2.0, ended=3.0), "replica-2.1"),
        (Happened(victim="wire webhook", kind="stalls", began=2.0, ended=3.0), "replica-1.1"),
    ],
)
def test_a_duplicate_is_explained_by_what_can_have_caused_it(happened: Happened, second_writer: str) -> None:
    journal = healthy()
    journal.sinks["webhook"].append(Copy("C", 8.7, second_writer))
    journal.delivered["C"].append(8.0)
    journal.happened.append(happened)
    findings = balance(journal, ordered=True, lease_seconds=LEASE_SECONDS, most_deliveries=4, grace_seconds=10.0)
    assert findings.violations == []
    assert findings.duplicates["webhook"].total() == 1
    assert findings.redeliveries.total() == 1


def test_a_prefix_that_comes_again_is_no_inversion() -> None:
    journal = healthy()
    journal.sinks["kafka"] += [Copy(message_id, 9.0 + number, "replica-2.1") for number, message_id in enumerate("ABC")]
    journal.happened.append(Happened(victim="replica 1", kind="kill -9", process="replica-1.1", began=0.0, ended=12.0))
    assert violations(journal) == []
