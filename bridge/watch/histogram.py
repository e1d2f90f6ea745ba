"""Observations counted in buckets: what a metric's distribution is made of, at the cost of a bisection."""

from bisect import bisect_left


class Histogram:
    """How many observations fell into which bucket. One thread observes; any may take a copy meanwhile."""

    __slots__ = ("_counts", "_sum", "bounds")

    def __init__(self, *bounds: float) -> None:
        self.bounds = tuple(map(float, bounds))
        """The largest value of each bucket, in ascending order; one more bucket takes what is larger than the last."""
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one more; negative values would make the sum no counter."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self._sum += value

    def copy(self) -> tuple[list[int], float]:
        """The number of observations in each bucket, and the sum of all."""
        return self._counts.copy(), self._sum
