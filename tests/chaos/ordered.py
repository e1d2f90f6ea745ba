"""A given number of messages in order, over many shards, with misfortunes until they are published: no inversion anywhere."""

import argparse
import sys

from chaos.campaign import run
from chaos.misfortunes import schedule
from chaos.round import Load
from chaos.stage import Terms

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m chaos.ordered", description=__doc__)
    parser.add_argument("--messages", type=int, default=50_000, help="how many, at least")
    parser.add_argument("--shards", type=int, default=100, help="over how many shards")
    parser.add_argument("--seed", type=int, help="decides which misfortunes come, and when; any when not given")
    parser.add_argument("--pause", type=float, default=3.0, help="seconds from one to the next, on average")
    parser.add_argument("--rate", type=int, default=300, help="messages a second")
    options = parser.parse_args()
    terms = Terms(ordered=True)
    sys.exit(
        run(
            terms,
            lambda rng, stage: schedule(
                rng,
                seconds=options.messages / options.rate,
                pause_seconds=options.pause,
                lease_seconds=terms.lease_seconds,
                victims=stage.victims,
                ordered=terms.ordered,
            ),
            Load(rate=options.rate, shards=options.shards, messages=options.messages),
            seed=options.seed,
        )
    )
