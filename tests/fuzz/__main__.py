"""Fuzz one reader of hostile input: `python -m fuzz TARGET --seconds N`.

libFuzzer makes the inputs, guided by what they reach in the code of the bridge (by way of Atheris). It begins with those in
`corpus/`, keeps what leads further in `.cache/fuzz`, and ends at the first finding, whose input it leaves there too. Minimise
it, mend the code, and put the input into `corpus/`, where the tests run it from then on.
"""

import argparse
import email.utils
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import atheris  # type: ignore[import-untyped]  # installed for this command alone

with atheris.instrument_imports(include=["bridge"], enable_loader_override=False):
    from fuzz.targets import CORPUS, TARGETS  # only what is imported here is instrumented
atheris.instrument_func(vars(email.utils)["_parsedate_tz"])  # which reads the Date header

GROWN = Path(".cache/fuzz")
HANG_SECONDS = 20
MAX_RESIDENT_MB = 2048


def main(arguments: Sequence[str]) -> None:
    """Fuzz until the time is over (exit code 0) or something is found."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60, help="how long [60]")
    parser.add_argument("--seed", type=int, default=0, help="of libFuzzer's random numbers; 0 for another each time [0]")
    parser.add_argument("--minimise", type=Path, metavar="INPUT", help="make this finding smaller, in place of looking for one")
    options = parser.parse_args(arguments)
    logging.disable()  # python-dotenv warns of each line that it can't read
    target = TARGETS[options.target]
    reached = GROWN / "reached" / options.target
    reached.mkdir(parents=True, exist_ok=True)
    dictionary = GROWN / f"{options.target}.dict"
    dictionary.write_text("".join(f'"{_escaped(token)}"\n' for token in target.tokens), encoding="ascii")
    flags = {
        "max_total_time": options.seconds,
        "seed": options.seed,
        "dict": dictionary,
        "max_len": target.max_bytes,
        "timeout": HANG_SECONDS,
        "rss_limit_mb": MAX_RESIDENT_MB,
        "artifact_prefix": f"{GROWN}/{options.target}-",
        "print_final_stats": 1,
    }
    if options.minimise:
        flags |= {"minimize_crash": 1, "exact_artifact_path": f"{options.minimise}.min"}
    inputs = [options.minimise] if options.minimise else [reached, CORPUS / options.target]
    atheris.Setup(["fuzz", *(f"-{name}={value}" for name, value in flags.items()), *map(str, inputs)], target.run)
    atheris.Fuzz()  # ends the process


def _escaped(token: bytes) -> str:
    """A token as libFuzzer's dictionaries have it."""
    return "".join(f"\\x{byte:02x}" for byte in token)


if __name__ == "__main__":
    main(sys.argv[1:])
