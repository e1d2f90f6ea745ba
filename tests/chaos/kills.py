"""Bridges killed and told to end, over and over, under load: no message may be lost, and each drain ends in its grace."""

import argparse
import sys

from chaos.campaign import run
from chaos.misfortunes import ends_of_processes
from chaos.round import Load
from chaos.stage import Terms

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m chaos.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="how many end by kill -9")
    parser.add_argument("--terms", type=int, default=100, help="how many end by SIGTERM")
    parser.add_argument("--seed", type=int, help="decides in which order; any when not given")
    parser.add_argument("--rate", type=int, default=500, help="messages a second")
    options = parser.parse_args()
    sys.exit(
        run(
            Terms(wires=False, webhook=False),
            lambda rng, stage: ends_of_processes(
                rng,
                kills=options.kills,
                terms=options.terms,
                replicas=[replica.name for replica in stage.replicas],
            ),
            Load(rate=options.rate),
            seed=options.seed,
        )
    )
