"""Which faults happen, while they may: each call is asked for, and the clear sky at the end of a world ends them all."""

import random
from collections.abc import Callable, Mapping
from typing import Any

from simulation.plan import Fault


class Weather:
    """Draws faults at their rates until it has cleared."""

    def __init__(self, rates: Mapping[Fault, float]) -> None:
        self.cleared = False
        self._rates = dict(rates)

    def first(self, rng: random.Random, *faults: Fault) -> Fault | None:
        """The first of these faults that hits; None mostly."""
        if not self._rates:
            return None
        for fault in faults:
            rate = self._rates.get(fault)
            if rate is not None and rng.random() < rate:
                return fault
        return None

    def clear(self) -> None:
        """No fault happens any more."""
        self.cleared = True
        self._rates.clear()


Later = Callable[..., Any]
"""Has something happen after so many seconds, in the world and not in a process: `later(seconds, callback, *args)`."""
