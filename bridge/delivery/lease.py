"""Deadlines, and the difference between the broker's clock and ours (design.md, promise 3)."""

import math
from functools import lru_cache

MARGIN_SHARE = 0.1
MAX_MARGIN_SECONDS = 10.0
"""The margin that is kept before a lease's end when none is set: a tenth of the lease, at most this. A fixed number of seconds
would kill short leases."""


@lru_cache(maxsize=64)  # it is asked several times for every message, and those of one poll share their lease
def margin(lease_seconds: float, setting: float | None = None) -> float:
    """How long before a lease's end nothing is handed to a sink any more, in seconds.

    A margin that was set (`BRIDGE_DELIVERY__LEASE_MARGIN_SECONDS`) holds, but never takes more than half of a lease.
    """
    if setting is not None:
        return min(setting, lease_seconds / 2)
    return min(lease_seconds * MARGIN_SHARE, MAX_MARGIN_SECONDS)


_DATE_RESOLUTION = 1.0  # seconds: a Date header names the second in which the answer was made
_DRIFT = 1e-4  # seconds a second by which two clocks part at worst; NTP corrects at up to 500 ppm, but not for long


class BrokerClock:
    """Bounds of the broker's clock minus ours, from the Date headers of its answers.

    One answer tells little: the broker wrote its Date, of a resolution of one second, some time between our request and its
    arrival. But each answer gives an interval, and the difference lies in all of them; after a few, the bounds are as narrow
    as a round trip. Local instants are seconds of a monotonic clock, so that a jump of our own wall clock changes nothing;
    the broker's are seconds since the epoch.
    """

    def __init__(self) -> None:
        self._earliest = -math.inf
        self._latest = math.inf
        self._seen_at = 0.0

    def observe(self, date: float, sent_at: float, received_at: float) -> None:
        """Learn from an answer that said `date` to a request sent and an answer received at these local instants."""
        widened = _DRIFT * max(0.0, received_at - self._seen_at)
        earliest, latest = date - received_at, date + _DATE_RESOLUTION - sent_at
        self._earliest = max(self._earliest - widened, earliest)
        self._latest = min(self._latest + widened, latest)
        if self._earliest > self._latest:  # the broker's clock was set: only what it says now counts
            self._earliest, self._latest = earliest, latest
        self._seen_at = received_at

    @property
    def known(self) -> bool:
        """Whether any answer has had a Date."""
        return math.isfinite(self._latest)

    def local(self, instant: float, *, otherwise: float) -> float:
        """The earliest local instant at which the broker's clock may show `instant`: to be late costs a duplicate.

        `otherwise` is the difference to assume while nothing is known.
        """
        return instant - (self._latest if self.known else otherwise)

    def likely(self, instant: float, *, ours: float) -> float:
        """The likeliest local instant at which the broker's clock showed `instant`, for measuring: early is as wrong as late.

        Clocks that are kept right show the same, so the difference is taken to be that of our own wall clock, `ours`, or, where
        the broker's dates contradict that, what is nearest to it.
        """
        return instant - min(max(ours, self._earliest), self._latest)
