"""What no input may do to whoever reads it: take long, take much memory, touch a file or the network.

Time is processor time, so that a busy machine changes little. Memory is the peak of the process, so that what libxml2 takes
counts. Only Linux forgets a peak; elsewhere nothing is seen that stays below the last one.
"""

import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from lxml import etree

from bridge.rocketmq import codec

SECONDS = 0.5
"""For all the readings that a target makes of an input of at most `BYTES`; a longer one has as much more as it is longer."""
BYTES = 65_536
MEMORY = 64 << 20
"""In bytes, for any input; and so many times its own size besides:"""
MEMORY_PER_BYTE = 300
PEAK = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")
_TRIES = 3  # a machine that was put to sleep is no finding; a slow reader is slow each time


def watched(check: Callable[[bytes], object], data: bytes, *, folder: Path | None = None) -> None:
    """Run `check` on an input. Raises AssertionError, and whatever `check` raises.

    Files may be opened in `folder` alone.
    """
    size = len(data)
    most_seconds = SECONDS * max(1.0, size / BYTES)
    most_memory = MEMORY + MEMORY_PER_BYTE * size
    for attempt in range(1, _TRIES + 1):
        memory, started = _new_peak(), time.process_time()
        with nothing_touched(folder):
            check(data)
        seconds = time.process_time() - started
        taken = _peak() - memory
        assert taken <= most_memory, f"{size:,} bytes took {taken:,} bytes of memory, more than {most_memory:,}"
        if seconds <= most_seconds:
            return
        assert attempt < _TRIES, f"{size:,} bytes took {seconds:.2f} s, more than {most_seconds:.2f} s"


def _new_peak() -> int:
    if PEAK.exists():
        PEAK.write_text("5", encoding="ascii")
    return _peak()


def _peak() -> int:
    # What getrusage counts begins with the memory of the process that started this one.
    with suppress(FileNotFoundError, IndexError):  # only Linux has it
        _, _, peak_of_its_own = STATUS.read_text(encoding="ascii").partition("VmHWM:")
        return int(peak_of_its_own.split(maxsplit=1)[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# ---- files and the network -------------------------------------------------------------------------------------------

_OUTSIDE = ("open", "socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "urllib.Request")


class _Seen(threading.local):  # what other threads do is not the input's doing
    touched: list[str] | None = None
    """None while nobody looks."""
    folder: Path | None = None


_seen = _Seen()


@contextmanager
def nothing_touched(folder: Path | None = None) -> Iterator[None]:
    """Raises AssertionError when files outside `folder`, or the network, were touched, or an XML parser asked for an entity."""
    _arm()
    touched: list[str] = []
    _seen.touched, _seen.folder = touched, folder
    try:
        yield
    finally:
        _seen.touched = None
    assert not touched, f"touched: {', '.join(touched)}"


class Tripwire(etree.Resolver):
    """libxml2 opens files behind Python's back, but asks here first."""

    def resolve(self, system_url: str, public_id: str, context: object) -> None:  # type: ignore[override]  # lxml's is untyped
        """Tell that it did, and let it go on."""
        _note(f"XML entity {system_url!r} {public_id!r}")


@cache
def _arm() -> None:
    sys.addaudithook(_audit)  # for as long as the process lives
    parsers = [value for value in vars(codec).values() if isinstance(value, etree.XMLParser)]
    assert parsers, "the codec's parsers have moved"
    for parser in parsers:
        parser.resolvers.add(Tripwire())


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if _seen.touched is None or not event.startswith(_OUTSIDE):
        return
    path = arguments[0] if event == "open" else None
    if isinstance(path, str | bytes):
        path = os.fsdecode(path)
        # Python loads some modules, such as codecs, when they are first asked for.
        if path.startswith(tuple(filter(None, sys.path))) or (_seen.folder and Path(path).is_relative_to(_seen.folder)):
            return
    _note(f"{event} {arguments!r}")


def _note(what: str) -> None:
    if _seen.touched is not None:
        _seen.touched.append(what[:300])
