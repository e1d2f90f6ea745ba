"""One round: load and misfortunes, then calm, and the end; after it the books are balanced."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from acceptance.processes import until
from chaos.books import Findings, balance
from chaos.journal import Journal, Place
from chaos.kafka_topics import copies
from chaos.misfortunes import Misfortune
from chaos.stage import Stage

TICK_SECONDS = 0.05
ASK_SECONDS = 1.0
MOST_DELIVERIES = 8
"""Of one message: each costs a lease, so far more than misfortunes that follow each other can take."""
END_SLACK_SECONDS = 2.0
"""What a process may take beyond its grace: to begin its drain, and to be gone."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is published: `rate` messages a second over so many shards, while misfortunes last, but at least `messages`."""

    rate: int = 300
    shards: int = 20
    messages: int = 0


async def play(
    stage: Stage, plan: Sequence[Misfortune], load: Load, rng: random.Random, *, patience_seconds: float = 120.0
) -> Findings:
    """Let the plan come to pass under load, and have the rest delivered; end all, and balance.

    Once there are no misfortunes any more, nothing may stand still for `patience_seconds`.
    """
    plan_is_over = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(_ask(stage))
        publishing = tasks.create_task(_publish(stage, load, rng, plan_is_over))
        await _befall(stage, plan)
        plan_is_over.set()
        await publishing
        stage.say(f"calm; {len(stage.journal.published)} messages published, {len(stage.journal.acked)} acked")
        await _rest(stage, patience_seconds)
        asking.cancel()
    await asyncio.gather(*(stage.end(replica) for replica in stage.replicas))
    stage.journal.sinks["kafka"] = await asyncio.to_thread(copies, stage.broker, stage.kafka_topic)
    terms = stage.terms
    return balance(
        stage.journal,
        ordered=terms.ordered,
        lease_seconds=terms.lease_seconds,
        most_deliveries=MOST_DELIVERIES,
        grace_seconds=terms.grace_seconds + END_SLACK_SECONDS,
    )


async def _befall(stage: Stage, plan: Sequence[Misfortune]) -> None:
    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for misfortune in plan:
            await asyncio.sleep(began + misfortune.at - time.monotonic())
            tasks.create_task(stage.suffer(misfortune))


async def _rest(stage: Stage, patience_seconds: float) -> None:
    """Wait until everything is acked, or nothing more will be."""
    acked, published = stage.journal.acked, stage.journal.published
    while (so_far := len(acked)) < len(published):
        try:
            await until(lambda: len(acked) > so_far, seconds=patience_seconds)
        except TimeoutError:
            stage.journal.faults.append(f"nothing was acked for {patience_seconds:g} s, though nothing was wrong any more")
            return
    stage.say("everything is acked")


async def _publish(stage: Stage, load: Load, rng: random.Random, plan_is_over: asyncio.Event) -> None:
    shards = [f"shard-{number}" for number in range(load.shards)]
    numbers: Counter[str] = Counter()
    began = time.monotonic()
    published = 0
    while not plan_is_over.is_set() or published < load.messages:
        due = int((time.monotonic() - began) * load.rate)
        places = []
        for shard in rng.choices(shards, k=due - published):
            places.append(Place(shard, numbers[shard]))
            numbers[shard] += 1
        stage.publish(*places)
        published = due
        await asyncio.sleep(TICK_SECONDS)


async def _ask(stage: Stage) -> None:
    while True:
        await asyncio.gather(*(replica.ask() for replica in stage.replicas))
        await asyncio.sleep(ASK_SECONDS)


def table(journal: Journal, findings: Findings) -> str:
    """What happened, for people."""
    return "\n".join(f"  {name:<64}{value}" for name, value in _rows(journal, findings))


def _rows(journal: Journal, findings: Findings) -> Iterator[tuple[str, object]]:
    for (victim, kind), times in sorted(Counter((h.victim, h.kind) for h in journal.happened).items()):
        yield f"{victim}: {kind}", times
    yield "messages published, and acked", f"{len(journal.published)}, {len(journal.acked)}"
    for sink, copies_there in journal.sinks.items():
        duplicates = findings.duplicates[sink]
        yield f"at {sink}: messages, and duplicates", f"{len(copies_there) - duplicates.total()}, {duplicates.total()}"
        for cause, times in duplicates.most_common():
            yield f"    by {cause}", times
    yield "deliveries beyond the first", findings.redeliveries.total()
    for cause, times in findings.redeliveries.most_common():
        yield f"    by {cause}", times
    yield "most deliveries of one message", findings.most_deliveries
    for code, times in journal.refused_acks.items():
        yield f"acks that the broker refused: {code}", times
    remembered = sum(report["remembered"] for report in journal.reports.values())
    yield "acked from memory, without being sent again", remembered
    not_acked: Counter[str] = Counter()
    for report in journal.reports.values():
        not_acked.update(report["not_acked"])
    for reason, times in not_acked.items():
        yield f"confirmed and not acked by a process: {reason}", times
    gap, gap_began = findings.longest_gap
    yield "longest time without an ack", f"{gap:.1f} s, from {gap_began - journal.began:.1f} s"
    yield "processes", len(journal.reports)
    ends = sorted(end.seconds for end in journal.exits)
    codes = ", ".join(f"{times} times {code}" for code, times in Counter(end.code for end in journal.exits).items())
    yield "ends by SIGTERM: exit codes", codes
    if ends:
        yield "    seconds: median, longest", f"{ends[len(ends) // 2]:.1f}, {ends[-1]:.1f}"
