"""The books: what must hold at the end of a round, whatever has happened in it.

An inversion is defined with duplicates in mind: among the copies at a sink, in the order of arrival, take the first of each
message; of every shard, their numbers ascend. So a prefix that comes again may repeat what was seen, and nothing overtakes.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from chaos.journal import Copy, Happened, Journal
from chaos.misfortunes import STOP, TERM

SHOWN = 5
"""So many examples of each violation."""

SLACK_SECONDS = 2.0
"""What a misfortune held back may arrive so much later."""

_AT_SINKS = ("kafka", "receiver", "wire kafka", "wire webhook")
_NO_CAUSE = ("redis", "wire redis")
"""The ledger's trouble costs nothing by itself: some other misfortune must have made it needed."""


@dataclass(slots=True)
class Findings:
    """What the books say."""

    violations: list[str] = field(default_factory=list)
    duplicates: dict[str, Counter[str]] = field(default_factory=dict)
    """Copies of a message beyond its first, by sink and by the misfortune that explains them."""
    redeliveries: Counter[str] = field(default_factory=Counter)
    """Deliveries of a message beyond its first, by the misfortune that explains them."""
    most_deliveries: int = 0
    """Of one message."""
    longest_gap: tuple[float, float] = (0.0, 0.0)
    """The most seconds between two accepted acks, and when they began."""


def balance(journal: Journal, *, ordered: bool, lease_seconds: float, most_deliveries: int, grace_seconds: float) -> Findings:
    """Balance them. No message may have been delivered more than `most_deliveries` times, whatever happened."""
    findings = Findings(list(journal.faults))
    violations = findings.violations
    violations += _differences("acked", journal.acked.keys(), journal)
    for sink, copies in journal.sinks.items():
        violations += _differences(f"at {sink}", {copy.message_id for copy in copies}, journal)
        violations += _acked_too_early(sink, copies, journal)
        if ordered:
            violations += inversions(sink, copies, journal)
        findings.duplicates[sink], unexplained = _duplicates(copies, journal)
        violations += _shown(f"duplicates at {sink} without a cause", unexplained)
    findings.redeliveries, unexplained = _redeliveries(journal, lease_seconds)
    violations += _shown("redeliveries without a cause", unexplained)
    findings.most_deliveries = max(map(len, journal.delivered.values()), default=0)
    if findings.most_deliveries > most_deliveries:
        violations.append(f"a message was delivered {findings.most_deliveries} times, and {most_deliveries} are allowed")
    acks = sorted(journal.acked.values())
    findings.longest_gap = max(((after - before, before) for before, after in pairwise(acks)), default=(0.0, 0.0))
    for end in journal.exits:
        if end.code != 0 or end.seconds > grace_seconds:
            violations.append(f"{end.process} was told to end: exit code {end.code} after {end.seconds:.1f} s")
    return findings


def _differences(what: str, found: Iterable[str], journal: Journal) -> Iterator[str]:
    found = set(found)
    yield from _shown(f"published and not {what}", sorted(journal.published.keys() - found))
    yield from _shown(f"{what} and never published", sorted(found - journal.published.keys()))


def _acked_too_early(sink: str, copies: Sequence[Copy], journal: Journal) -> Iterator[str]:
    durable: dict[str, float] = {}
    for copy in copies:
        durable[copy.message_id] = min(copy.at, durable.get(copy.message_id, copy.at))
    early = [message_id for message_id, at in journal.acked.items() if message_id in durable and at < durable[message_id]]
    yield from _shown(f"acked before it was durable at {sink}", early)


def inversions(sink: str, copies: Sequence[Copy], journal: Journal) -> Iterator[str]:
    """First copies of a shard that don't ascend; see the top of this module."""
    last: dict[str, int] = {}
    wrong = []
    for message_id in dict.fromkeys(copy.message_id for copy in copies):
        place = journal.published.get(message_id)
        if place is None:
            continue  # reported as alien
        if place.number < last.get(place.shard, -1):
            wrong.append(f"{place.shard}: {place.number} after {last[place.shard]}")
        last[place.shard] = max(place.number, last.get(place.shard, -1))
    yield from _shown(f"inversions at {sink}", wrong)


def _duplicates(copies: Sequence[Copy], journal: Journal) -> tuple[Counter[str], list[str]]:
    causes: Counter[str] = Counter()
    unexplained = []
    before: dict[str, Copy] = {}
    for copy in sorted(copies, key=lambda copy: copy.at):
        if (first := before.get(copy.message_id)) is not None:
            explaining = [happened for happened in journal.happened if _explains(happened, first, copy)]
            cause = _cause(explaining, first.at - SLACK_SECONDS, copy.at)
            causes[cause or "?"] += 1
            if cause is None:
                unexplained.append(f"{copy.message_id} by {first.writer}, {copy.at - first.at:.2f} s later by {copy.writer}")
        before[copy.message_id] = copy
    return causes, unexplained


def _explains(happened: Happened, first: Copy, second: Copy) -> bool:
    """Whether a misfortune of this kind can be why a process sent what another one, or the same, had sent.

    Why the same: the answer of the sink did not reach it, or not before it had given up. Why another: the first didn't get
    so far as to ack, either. That acks are lost or late is no reason for the same process: it remembers (promise 2). And
    SIGTERM never is one: who drains acks what was confirmed.
    """
    if happened.kind == TERM:
        return False
    if happened.process:
        return happened.process == first.writer or (happened.kind == STOP and happened.process == second.writer)
    return happened.victim.startswith(_AT_SINKS) or first.writer != second.writer


def _redeliveries(journal: Journal, lease_seconds: float) -> tuple[Counter[str], list[str]]:
    causes: Counter[str] = Counter()
    unexplained = []
    for message_id, times in journal.delivered.items():
        for first, again in pairwise(times):
            # whatever kept it from being acked did so before its lease was over
            cause = _cause(journal.happened, first - SLACK_SECONDS, min(again, first + lease_seconds))
            causes[cause or "?"] += 1
            if cause is None:
                unexplained.append(f"{message_id} after {again - first:.2f} s")
    return causes, unexplained


def _cause(candidates: Iterable[Happened], begin: float, end: float) -> str | None:
    """What was there in that time, in words: what began last; a drain only where there was nothing else."""
    there = (
        happened
        for happened in candidates
        if happened.began <= end and begin <= happened.ended and not happened.victim.startswith(_NO_CAUSE)
    )
    cause = max(there, key=lambda happened: (happened.kind != TERM, happened.began), default=None)
    return f"{cause.victim.rstrip(' 0123456789')}: {cause.kind}" if cause else None


def _shown(what: str, examples: Sequence[str]) -> Iterator[str]:
    if examples:
        shown = "; ".join(examples[:SHOWN])
        yield f"{len(examples)} {what}: {shown}{'; …' if len(examples) > SHOWN else ''}"
