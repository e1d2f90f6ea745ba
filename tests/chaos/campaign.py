"""A round with servers of its own, as a command."""

import random
import sys
from collections.abc import Callable

import uvloop

from chaos.misfortunes import Misfortune
from chaos.round import Load, play, table
from chaos.stage import Stage, Terms, staged
from kafka.broker import running_broker
from ledger.server import running_redis

Plan = Callable[[random.Random, Stage], list[Misfortune]]


def run(terms: Terms, plan: Plan, load: Load, *, seed: int | None) -> int:
    """Play it, print its story and its table; tells the exit code: 1 when the books don't balance."""
    if seed is None:
        seed = random.randrange(1_000_000)
    rng = random.Random(seed)
    _say(f"seed {seed}")

    async def go() -> int:
        async with staged(terms, broker, redis, _say) as stage:
            findings = await play(stage, plan(rng, stage), load, rng)
        _say(f"\nseed {seed}\n{table(stage.journal, findings)}")
        for violation in findings.violations:
            _say(f"VIOLATION: {violation}")
        _say("the books don't balance" if findings.violations else "the books balance")
        return 1 if findings.violations else 0

    with running_broker() as broker, running_redis() as redis:
        return uvloop.run(go())


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
