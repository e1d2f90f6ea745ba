"""`python -m bench`: see README.md."""

import argparse
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from bench import machine, programs
from bench.candidates import CANDIDATES
from bench.programs import BenchError
from bench.run import BESIDES, LONG, Run, say
from bench.tables import markdown
from bench.topics import KINDS

RESULTS = Path(__file__).with_name("RESULTS.md")
BODY = "json-1024"


def main() -> int:
    """Measure, print, and, when nothing was left out, write RESULTS.md."""
    options = _options()
    load_before, began = os.getloadavg()[0], time.monotonic()
    kind, body_bytes = options.body.split("-")
    with ExitStack() as stack:
        run = Run(
            stack,
            options.only or [*CANDIDATES, *BESIDES],
            kind=kind,
            body_bytes=int(body_bytes),
            window_seconds=options.seconds,
            windows=options.windows,
        )
        try:
            programs.settle_on_the_other_core()
            run.measure()
        except BenchError as problem:
            say(f"bench: {problem}")
            return 1
    text = markdown(run.report, machine.describe(load_before))
    sys.stdout.write(text)
    if options.only is None and options.body == BODY:
        RESULTS.write_text(text, encoding="utf-8")
        say(f"written to {RESULTS}")
    say(f"{(time.monotonic() - began) / 60:.1f} minutes")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="What a message costs.")
    known = [*CANDIDATES, *BESIDES, *LONG]
    parser.add_argument("--only", metavar="NAME,…", help=f"some of it, without writing RESULTS.md: {', '.join(known)}")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long a window is [3]")
    parser.add_argument("--windows", type=int, default=3, help="how many of them there are [3]")
    parser.add_argument("--body", metavar="KIND-BYTES", default=BODY, help=f"{', '.join(KINDS)}, and a size [{BODY}]")
    options = parser.parse_args()
    if options.only is not None:
        options.only = [name.removeprefix("ours-") for name in options.only.split(",")]
        if unknown := set(options.only) - set(known):
            parser.error(f"--only: {', '.join(sorted(unknown))}: unknown; there are {', '.join(known)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
