"""Short rounds of what `python -m chaos`, `chaos.kills` and `chaos.ordered` do for as long as one likes."""

import random

import pytest

from chaos.books import Findings
from chaos.misfortunes import CUT, KILL, STOP, TERM, ends_of_processes, schedule
from chaos.round import Load, play, table
from chaos.stage import Stage, Terms, staged
from kafka.broker import Broker
from ledger.server import RedisServer

pytestmark = pytest.mark.timeout(300)  # a round may wait several times, each with its own bound

PATIENCE_SECONDS = 60.0
ESSENTIAL = {
    ("replica", KILL),
    ("replica", TERM),
    ("replica", STOP),
    ("kafka", KILL),
    ("redis", KILL),
    ("wire", CUT),
    ("wire", "stalls"),
    ("emulator", "ack_answer_lost"),
    ("receiver", "takes it, and answers 500"),
}
"""What a short round must not do without, whatever seed it has."""


def assert_balanced(stage: Stage, findings: Findings, story: list[str]) -> None:
    assert not findings.violations, "\n".join([*story, table(stage.journal, findings), *findings.violations])


async def test_after_misfortunes_of_every_kind_the_books_balance(kafka: Broker, redis: RedisServer) -> None:
    story: list[str] = []
    rng = random.Random(12070)
    terms = Terms()
    async with staged(terms, kafka, redis, story.append) as stage:
        plan = schedule(
            rng, seconds=6.0, pause_seconds=0.4, lease_seconds=terms.lease_seconds, victims=stage.victims, ordered=terms.ordered
        )
        assert {(misfortune.victim.partition(" ")[0], misfortune.kind) for misfortune in plan} >= ESSENTIAL
        findings = await play(stage, plan, Load(rate=200), rng, patience_seconds=PATIENCE_SECONDS)
    assert_balanced(stage, findings, story)


async def test_in_order_nothing_overtakes_whatever_happens(kafka: Broker, redis: RedisServer) -> None:
    story: list[str] = []
    rng = random.Random(13165)
    terms = Terms(ordered=True, wires=False)
    async with staged(terms, kafka, redis, story.append) as stage:
        plan = schedule(
            rng, seconds=4.0, pause_seconds=0.4, lease_seconds=terms.lease_seconds, victims=stage.victims, ordered=terms.ordered
        )
        findings = await play(stage, plan, Load(rate=300, shards=4), rng, patience_seconds=PATIENCE_SECONDS)
    assert_balanced(stage, findings, story)


async def test_bridges_that_are_killed_or_told_to_end_under_load_lose_nothing_and_drain_in_time(
    kafka: Broker, redis: RedisServer
) -> None:
    story: list[str] = []
    rng = random.Random(0)
    async with staged(Terms(wires=False, webhook=False), kafka, redis, story.append) as stage:
        replicas = [replica.name for replica in stage.replicas]
        plan = ends_of_processes(rng, kills=3, terms=3, replicas=replicas)
        findings = await play(stage, plan, Load(rate=500), rng, patience_seconds=PATIENCE_SECONDS)
    assert_balanced(stage, findings, story)
