"""Live through worlds, one after the other, until a promise is broken; then tell the story of that one, and end with 1."""

import argparse
import contextlib
import gc
import sys
import time
from collections import Counter
from typing import TextIO

from simulation.mutants import MUTANTS
from simulation.world import World

REPORT_SECONDS = 10.0


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    parser.add_argument("--worlds", type=int, metavar="N", help="how many; without it and --seconds, until Ctrl-C")
    parser.add_argument("--seconds", type=float, metavar="T", help="for how long")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="the first world's; the others count on from it")
    parser.add_argument("--replay", type=int, metavar="SEED", help="tell the story of this one, and what is logged in it")
    parser.add_argument("--mutant", choices=MUTANTS, help="with this mistake in the delivery")
    arguments = parser.parse_args()
    mutant = MUTANTS[arguments.mutant].alive() if arguments.mutant else contextlib.nullcontext()
    with mutant:
        if arguments.replay is not None:
            return replay(arguments.replay)
        return campaign(arguments.seed, arguments.worlds, arguments.seconds)


def replay(seed: int) -> int:
    """Tell the story of one world."""
    world = World(seed, logs=True)
    story = world.run()
    _say(f"seed: {seed}", *world.plan.lines(), *story.lines())
    return 1 if story.violation else 0


def campaign(first: int, worlds: int | None, seconds: float | None) -> int:
    """World after world."""
    gc.set_threshold(100_000, 50, 1000)  # a world is much garbage, all at once
    begun = reported = time.monotonic()
    spent = time.process_time()
    duplicates: Counter[str] = Counter()
    done = 0
    while (worlds is None or done < worlds) and (seconds is None or time.monotonic() < begun + seconds):
        world = World(first + done)
        violation = world.run().violation
        if violation is not None:
            _say(f"the world of seed {first + done} broke {violation.promise}: {violation.text}", to=sys.stderr)
            return replay(first + done)
        done += 1
        duplicates += world.duplicates
        if time.monotonic() >= reported + REPORT_SECONDS or done == worlds:
            reported = time.monotonic()
            rate = done / (time.process_time() - spent) * 60
            _say(f"{done:,} worlds from seed {first}, {rate:,.0f} in a minute of processor time", to=sys.stderr)
    _say(f"in {done:,} worlds no promise was broken; events were written twice because")
    _say(*(f"{count:10,} times {cause}" for cause, count in duplicates.most_common()))
    return 0


def _say(*lines: str, to: TextIO = sys.stdout) -> None:
    to.writelines(f"{line}\n" for line in lines)
    to.flush()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
