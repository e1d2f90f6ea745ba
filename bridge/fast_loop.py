"""The event loop that everything runs on."""

import asyncio
import sys
from collections.abc import Callable


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """For `asyncio.Runner`: uvloop's on Linux, where it halves the cost of a poll; elsewhere asyncio's own.

    Leases are reckoned on the loop's clock and on `time.monotonic`, which must be the same one. On macOS uvloop's counts the
    time for which the machine has slept, and Python's doesn't: after a nap every lease would look as if it were over.
    """
    if sys.platform != "linux":
        return None
    try:
        import uvloop  # noqa: PLC0415 - elsewhere it need not be there
    except ImportError:
        return None
    return uvloop.new_event_loop
