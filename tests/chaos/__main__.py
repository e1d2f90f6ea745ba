"""Misfortunes of every kind for a while, upon bridges and everything that they talk to; then the books must balance."""

import argparse
import sys

from chaos.campaign import run
from chaos.misfortunes import schedule
from chaos.round import Load
from chaos.stage import Terms

parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
parser.add_argument("--seconds", type=float, default=600.0, help="for how long misfortunes come")
parser.add_argument("--seed", type=int, help="decides which come, and when; any when not given")
parser.add_argument("--pause", type=float, default=3.0, help="seconds from one to the next, on average")
parser.add_argument("--rate", type=int, default=300, help="messages a second")
parser.add_argument("--sinks", choices=("kafka", "kafka,webhook"), default="kafka,webhook")
parser.add_argument("--ordered", action="store_true", help="consume in order")
options = parser.parse_args()
terms = Terms(ordered=options.ordered, webhook="webhook" in options.sinks)
sys.exit(
    run(
        terms,
        lambda rng, stage: schedule(
            rng,
            seconds=options.seconds,
            pause_seconds=options.pause,
            lease_seconds=terms.lease_seconds,
            victims=stage.victims,
            ordered=terms.ordered,
        ),
        Load(rate=options.rate),
        seed=options.seed,
    )
)
