"""The last minutes: samples of the facts, for rates and for who opens the page at three in the morning."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

SAMPLE_SECONDS = 5.0
"""How often a sample is taken."""
SPAN_SECONDS = 900.0
"""How far back samples reach."""
RATE_SECONDS = 60.0
"""Over how long a rate is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Some facts at one instant. Counts are since the start."""

    at: float
    """In seconds of the monotonic clock."""
    received: int
    confirmed: int
    acked: int
    latencies: int
    """How many messages the next is about."""
    latency_seconds: float
    """From publishing to the confirmation, summed over these messages."""
    in_flight: int
    """Messages whose lease is in hand."""
    backlog: int | None
    """Messages that the management API says are not consumed yet; None when it isn't known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """How much went through, lately."""

    over_seconds: float
    received_per_second: float
    acked_per_second: float


class History:
    """Samples of the last `SPAN_SECONDS`. Samples are added by one thread; any may read them."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=round(SPAN_SECONDS / SAMPLE_SECONDS))

    @property
    def samples(self) -> Sequence[Sample]:
        """All of them, the oldest first."""
        return tuple(self._samples)

    def add(self, sample: Sample) -> None:
        """One more; the oldest makes room."""
        self._samples.append(sample)

    def throughput(self, *, at: float, received: int, acked: int) -> Throughput | None:
        """How much went through in the last `RATE_SECONDS`, or since the first sample; None when that is now.

        What is given is as in a sample that was taken now.
        """
        number = min(len(self._samples), round(RATE_SECONDS / SAMPLE_SECONDS))
        if not number or at <= (earlier := self._samples[-number]).at:
            return None
        seconds = at - earlier.at
        return Throughput(
            over_seconds=seconds,
            received_per_second=(received - earlier.received) / seconds,
            acked_per_second=(acked - earlier.acked) / seconds,
        )
