"""Every promise of the delivery, in worlds that a seed decides."""

import os
import subprocess
import sys
from itertools import count, islice
from pathlib import Path

import pytest

from simulation import story
from simulation.mutants import MUTANTS
from simulation.plan import draw
from simulation.world import World

WORLDS, OF_A_TEST = 320, 40
"""How many worlds these tests live through, and how many one of them does."""

WORLDS_TO_CATCH = 40
"""A change of the delivery changes what happens in a world, so a mistake may be seen a few worlds later than it was."""

# The first world in which each mistake is seen, as `python -m simulation --mutant MISTAKE` finds it.
CAUGHT_IN = {
    "acks what no sink has confirmed": 1,
    "acks what one of the sinks has confirmed": 1,
    "acks what was refused, without a dead letter": 2,
    "takes every dead letter for confirmed": 20,
    "leaves what it could ack": 9,
    "forgets what was confirmed": 7,
    "writes what was written": 7,
    "forgets which sinks have confirmed": 1,
    "sends what is still unknown": 1,
    "forgets a late confirmation": 1,
    "forgets answers that found no room": 702,
    "doesn't know what is under way": 6,
    "sends what was refused": 9,
    "ignores the lease": 0,
    "ignores the broker's clock": 13,
    "cancels a send": 5,
    "goes on past a failure in a shard": 10,
    "sends a shard at once": 3,
    "polls in an outage": 3,
    "spends deliveries in an outage": 43,
    "takes a probe for the end of an outage": 3,
    "never sees the end of an outage": 1,
    "tells the others nothing": 256,
    "asks the others nothing": 25,
    "believes every answer to come": 18,
    "takes an outage for poison": 183,
    "acks again and again": 7,
    "never pauses": 4,
    "opens a sink that is being opened": 281,
    "drains without an end": 106,
    "gives no room back": 1,
}


@pytest.mark.parametrize("first", range(0, WORLDS, OF_A_TEST))
def test_no_promise_is_broken_in_any_world(first: int) -> None:
    broken = {seed: World(seed).run().violation for seed in range(first, first + OF_A_TEST)}
    assert not {seed: violation for seed, violation in broken.items() if violation}, (
        "replay: python -m simulation --replay SEED"
    )


@pytest.mark.parametrize("mistake", MUTANTS)
def test_a_mistake_is_seen_to_break_its_promise(mistake: str) -> None:
    mutant = MUTANTS[mistake]
    for seed in range(CAUGHT_IN[mistake], CAUGHT_IN[mistake] + WORLDS_TO_CATCH):
        with mutant.alive():
            violation = World(seed, only=mutant.breaks).run().violation
        if violation and violation.promise == mutant.breaks:
            assert World(seed).run().violation is None
            return
    pytest.fail("it was not seen")


def test_a_sink_that_is_down_for_ten_leases_costs_a_message_one_delivery_more_but_for_those_that_try_it() -> None:
    """Of a world with one outage alone, OneDeliveryPerOutage says so; here, that such worlds are what they should be."""
    outages = (seed for seed in count() if draw(seed).only_outages and draw(seed).replicas == 1)
    for seed in islice(outages, 10):
        world = World(seed)
        told = [entry for _, entry in world.run().entries]
        assert world.story.violation is None
        (outage,) = world.plan.incidents
        assert outage in [entry.incident for entry in told if isinstance(entry, story.Incided)]


def test_a_world_is_the_same_in_every_process() -> None:
    """Whatever hashes, addresses and the clock are there: else a seed would replay nothing."""

    def tell(hash_seed: str) -> bytes:
        command = [sys.executable, "-m", "simulation", "--replay", "21"]
        tests = str(Path(__file__).parent.parent)
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": tests}
        return subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60).stdout

    assert tell("1") == tell("2")


def test_a_broken_promise_ends_the_command_with_the_story_of_its_world() -> None:
    command = [sys.executable, "-m", "simulation", "--mutant", "ignores the lease", "--worlds", "3"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    ended = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "the world of seed 0 broke NothingPastItsDeadline" in ended.stderr
    assert "HandedOut" in ended.stdout
    assert "promise=NothingPastItsDeadline" in ended.stdout.splitlines()[-1]
