"""What the other side of a sink saw of each event, so that its own answer time can be told from the bridge's."""

import json
import re
import sys
import time
from collections import deque
from collections.abc import Sequence

MAX_SEEN = 100_000

_ID = re.compile(rb'"id":"([0-9A-F]{32})"')


class Witness:
    """Remembers of the last 100,000 events when they had arrived whole, and when their answer was there."""

    def __init__(self) -> None:
        self._seen: deque[tuple[str, float, float]] = deque(maxlen=MAX_SEEN)

    def note(self, content: bytes, arrived_at: float) -> None:
        """Every CloudEvent in it has just been answered. Instants are seconds of the monotonic clock."""
        now = time.monotonic()
        self._seen.extend([(name.decode(), arrived_at, now) for name in _ID.findall(content)])

    def testify(self) -> None:
        """Write everything to stdout, as JSON."""
        json.dump(list(self._seen), sys.stdout)


def answer_seconds(testimony: str) -> dict[str, float]:
    """How long the other side took over each event, by the event's id."""
    seen: Sequence[tuple[str, float, float]] = json.loads(testimony)
    return {name: answered_at - arrived_at for name, arrived_at, answered_at in seen}
