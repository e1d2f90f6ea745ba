"""Which misfortunes there are, and a schedule of them that a seed decides."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

KILL, TERM, STOP = "kill -9", "SIGTERM", "SIGSTOP"
CUT = "cut"

_TIMES: Final = {
    "replica": ((KILL, 3), (TERM, 3), (STOP, 3)),
    "kafka": ((KILL, 1), (STOP, 1)),
    "redis": ((KILL, 1), (STOP, 1)),
    "wire": ((CUT, 3), ("refuses", 1), ("stalls", 2), ("trickles", 1)),
    "receiver": (("answers 503", 1), ("answers 401", 1), ("answers late", 1), ("takes it, and answers 500", 2)),
    "emulator": (
        ("ack_answer_lost", 3),
        ("ack_refused", 2),
        ("ack_stuck", 1),
        ("ack_denied", 1),
        ("cut_after", 2),
        ("cut_before", 1),
        ("stalled", 1),
        ("internal_error", 1),
        ("bad_gateway", 1),
        ("unavailable", 1),
        ("throttled", 1),
        ("key_withdrawn", 1),
        ("early_not_exist", 1),
        ("empty_ok", 1),
        ("no_messages_ok", 1),
        ("missing_body", 1),
        ("missing_id", 1),
        ("broken_xml", 1),
        ("illegal_character", 1),
        ("wrong_md5", 1),
        ("strand_abandoned_polls", 1),
        ("clock_offset_seconds", 2),
        ("answer_delay_seconds", 1),
    ),
}
"""How often each comes, of those that a kind of victim may meet."""

_DAMAGE: Final = {"missing_body", "missing_id", "broken_xml"}
"""Such damage is a message's own: it stays, and its shard goes on without it. The emulator damages single deliveries."""

_VICTIMS: Final = {"replica": 9, "emulator": 8, "wire": 6, "receiver": 3, "kafka": 2, "redis": 2}
"""How often each kind of victim is hit."""


@dataclass(frozen=True, slots=True)
class Misfortune:
    """One line of a schedule."""

    at: float
    """Seconds after the beginning."""
    victim: str
    kind: str
    seconds: float = 0.0
    """How long it lasts; a process that has ended is started again after this."""
    share: float = 1.0
    """Of the emulator's faults: how much is hit; or how far, in leases, its clock is moved, or an answer held back."""
    after_work_seconds: float | None = None
    """It waits until the process that it hits has acked something, and then so long."""

    def __str__(self) -> str:
        """As it is logged."""
        lasts = f", {self.seconds:.1f} s" if self.seconds else ""
        share = f" ({self.share:.2f})" if self.victim == "emulator" else ""
        return f"{self.victim}: {self.kind}{share}{lasts}"


def schedule(
    rng: random.Random, *, seconds: float, pause_seconds: float, lease_seconds: float, victims: Sequence[str], ordered: bool
) -> list[Misfortune]:
    """Misfortunes for so long, one every `pause_seconds` on average; none lasts longer than two and a half leases.

    In order, none makes a message unreadable for a while.
    """
    kinds = {kind: weight for kind, weight in _VICTIMS.items() if any(_kind(victim) == kind for victim in victims)}
    at = 0.0
    misfortunes = []
    while (at := at + rng.expovariate(1 / pause_seconds)) < seconds:
        (chosen,) = rng.choices(list(kinds), list(kinds.values()))
        victim = rng.choice([victim for victim in victims if _kind(victim) == chosen])
        names, weights = zip(*_TIMES[chosen], strict=True)
        (kind,) = rng.choices(names, weights)
        if ordered and kind in _DAMAGE:
            continue
        lasts = 0.0 if kind == CUT else lease_seconds * min(rng.expovariate(1.5) + 0.1, 2.5)
        misfortunes.append(Misfortune(at, victim, kind, lasts, rng.choice((0.05, 0.3, 1.0))))
    return misfortunes


def ends_of_processes(rng: random.Random, *, kills: int, terms: int, replicas: Sequence[str]) -> list[Misfortune]:
    """So many ends of processes of both kinds, in any order, of the replicas in turn; each process works for up to a second."""
    kinds = [KILL] * kills + [TERM] * terms
    rng.shuffle(kinds)
    return [
        Misfortune(0.0, replicas[number % len(replicas)], kind, after_work_seconds=rng.random())
        for number, kind in enumerate(kinds)
    ]


def _kind(victim: str) -> str:
    return victim.partition(" ")[0]
