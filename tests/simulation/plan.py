"""What a world is made of, drawn from its seed: the settings, the load, and the faults with their times and rates."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Enum

from bridge.delivery.engine import Rules


class Fault(Enum):
    """What goes wrong; the value is how the story tells it."""

    # between us and the broker
    REQUEST_LOST = "the request never arrived"
    ANSWER_LOST = "the answer was lost"
    DOUBLED = "the request arrived twice"
    SERVER_ERROR = "500"
    THROTTLED = "throttled"
    SLOW = "slow"
    NOT_HELD = "the poll was not held"
    ACK_REFUSED = "refused though valid"
    # at a sink
    SINK_SLOW = "the sink was slow"
    HANGS = "the sink didn't answer"
    AGAIN = "not taken"
    AGAIN_THOUGH_WRITTEN = "written, and yet said not to be taken"
    LATE = "the answer came later"
    LATE_AGAIN = "the answer came later: not taken"
    CUT_OFF = "the answer was cut off"
    DOWN_THOUGH_WRITTEN = "written, and then the connection broke"
    BREACH = "the sink broke its contract"
    # at the shared ledger
    LEDGER_FAILS = "the ledger's store was gone"
    LEDGER_ANSWER_LOST = "the answer of the ledger's store was lost"
    LEDGER_HANGS = "the ledger's store didn't answer"


class Mode(Enum):
    """How a sink is down."""

    RAISES = "raises SinkDownError"
    AGAIN = "takes nothing"
    REFUSES = "refuses everything"
    HANGS = "doesn't answer"


@dataclass(frozen=True, slots=True)
class Outage:
    """A sink takes nothing for so many seconds."""

    at: float
    seconds: float
    sink: str
    mode: Mode


@dataclass(frozen=True, slots=True)
class Killed:
    """SIGKILL; the replica starts again after so many seconds."""

    at: float
    replica: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Frozen:
    """SIGSTOP, and SIGCONT after so many seconds."""

    at: float
    replica: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Stopped:
    """SIGTERM, with more signals a second apart each; the replica starts again so many seconds after its end."""

    at: float
    replica: int
    signals: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ClockSet:
    """Somebody sets the broker's clock, or a replica's wall clock, by so many seconds."""

    at: float
    replica: int | None
    by: float


Incident = Outage | Killed | Frozen | Stopped | ClockSet


class Damage(Enum):
    """How a message can't be read."""

    READABLE_ID = "damaged"
    WITHOUT_ID = "damaged, without an id"
    WITHOUT_RECEIPT = "damaged, without a receipt handle"


@dataclass(slots=True, eq=False)
class Message:
    """One message of the load, and what is the matter with it."""

    number: int
    shard: str
    index: int
    """Its place in its shard."""
    at: float
    size: int
    refused_by: frozenset[str] = frozenset()
    """Sinks that will never take it."""
    fails_at: frozenset[str] = frozenset()
    """Sinks that take it only when the weather has cleared."""
    damage: Damage | None = None
    damaged_deliveries: int = 0
    """How many of its deliveries arrive damaged."""
    damaged_from: int = 1
    """The first of them."""
    id: str = ""
    """Given by the broker."""
    id_unread: str = ""
    """What it is called where its id can't be read."""

    def is_damaged(self, times: int) -> bool:
        """Whether that delivery arrives damaged."""
        return self.damage is not None and 0 <= times - self.damaged_from < self.damaged_deliveries

    def identity(self, times: int) -> str:
        """What that delivery is known by."""
        return self.id_unread if self.damage is Damage.WITHOUT_ID and self.is_damaged(times) else self.id

    @property
    def sound(self) -> bool:
        """Whether nothing is the matter with it."""
        return not self.refused_by and not self.fails_at and self.damage is None

    def trouble(self) -> str:
        """What is the matter with it, for a person."""
        damaged = (
            f"{self.damage.value}, {self.damaged_deliveries} times from {self}#{self.damaged_from} on" if self.damage else ""
        )
        refused = f"refused by {','.join(sorted(self.refused_by))}" if self.refused_by else ""
        fails = f"fails at {','.join(sorted(self.fails_at))}" if self.fails_at else ""
        return f"{self} is {damaged or refused or fails or 'sound'}"

    def __str__(self) -> str:
        return f"m{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One world, as it is meant to go."""

    rules: Rules
    lease: float
    sinks: tuple[str, ...]
    probed: bool
    """Whether the sinks can be probed."""
    dead_letters: bool
    shared_ledger: bool
    replicas: int
    load: Sequence[Message]
    incidents: Sequence[Incident]
    rates: Mapping[Fault, float]
    disorder: float
    clears_at: float
    """When the faults end, so that what is left must get through."""
    broker_offset: float
    """The broker's clock minus ours, in seconds, at the beginning."""
    tells_dates: bool
    """Whether the broker's answers carry a Date."""

    def lines(self) -> list[str]:
        """The plan, for a person."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        load, rates = values.pop("load"), values.pop("rates")
        lines = [f"{name}: {value}" for name, value in values.items()]
        lines.append("rates: " + ", ".join(f"{fault.value!r} {rate}" for fault, rate in rates.items()))
        lines.append(f"load: {len(load)} messages, of which " + ", ".join(str(m.trouble()) for m in load if not m.sound))
        return lines

    @property
    def only_outages(self) -> bool:
        """Whether nothing is wrong but sinks that say they are down."""
        outages_alone = all(isinstance(incident, Outage) and incident.mode is Mode.RAISES for incident in self.incidents)
        return outages_alone and not self.rates and all(message.sound for message in self.load)


DEAD_LETTERS = "dead letters"


def draw(seed: int) -> Plan:
    """The plan of the world of that seed."""
    rng = random.Random(f"plan {seed}")
    lease = rng.choice((10.0, 20.0, 60.0, 300.0))
    sinks = tuple("abc"[: rng.choice((1, 1, 1, 2, 2, 3))])
    ordered = rng.random() < 0.4
    span = rng.choice((20.0, 2 * lease, 5 * lease))
    dead_letters = rng.random() < 0.5
    replicas = rng.choice((1, 1, 2))
    tells_dates = rng.random() < 0.95  # without, its clock is taken to be ours, and has to be
    calm = rng.random() < 0.1
    rates = {} if calm else {fault: _rate(rng) for fault in Fault if rng.random() < 0.2}
    incidents = _outages_alone(rng, span, sinks, lease) if calm else _incidents(rng, span, sinks, lease, replicas)
    if not tells_dates:
        incidents = [incident for incident in incidents if not isinstance(incident, ClockSet)]
    return Plan(
        rules=_rules(rng, ordered=ordered, lease=lease),
        lease=lease,
        sinks=sinks,
        probed=rng.random() < 0.5,
        dead_letters=dead_letters,
        shared_ledger=rng.random() < 0.3,
        replicas=replicas,
        load=_load(rng, span, sinks, ordered=ordered, sound=calm),
        incidents=incidents,
        rates=rates,
        disorder=rng.choice((0.0, 0.1, 1.0)),
        clears_at=span + (10 * lease if calm else rng.choice((0.0, lease, 3 * lease))),
        broker_offset=rng.choice((0.0, 0.4, -3.0, 600.0, -800.0)) if tells_dates else 0.0,
        tells_dates=tells_dates,
    )


def _rate(rng: random.Random) -> float:
    return rng.choice((0.02, 0.1, 0.3, 0.7))


def _rules(rng: random.Random, *, ordered: bool, lease: float) -> Rules:
    return Rules(
        ordered=ordered,
        batch_size=rng.choice((1, 3, 8, 16, 16)),
        wait_seconds=rng.choice((0, 2, 10, 30, 30, 30, 30)),
        max_pollers=rng.choice((1, 2, 8)),
        max_bytes=rng.choice((65_536, 1 << 20, 16 << 20, 16 << 20)),
        lease_margin_seconds=rng.choice((None, None, None, 0.0, 2.0, lease)),
        max_deliveries=rng.choice((None, None, 1, 2, 4)),
        grace_seconds=rng.choice((1.0, 5.0, 20.0, 45.0, 45.0)),
    )


def _load(rng: random.Random, span: float, sinks: Sequence[str], *, ordered: bool, sound: bool) -> list[Message]:
    shards = rng.choice((("",), ("x",), ("x", "y"), ("x", "y", "z", ""))) if ordered or rng.random() < 0.3 else ("",)
    large = rng.random() < 0.1
    trouble = 0.0 if sound else rng.choice((0.0, 0.0, 0.05, 0.3))
    count = rng.choice((3, 8, 20, 20, 50))
    bursts = [rng.uniform(0.0, span) for _ in range(rng.choice((1, 3, 10)))]
    ends: dict[str, int] = {}
    load = []
    for number, at in enumerate(sorted(rng.choice(bursts) for _ in range(count))):
        shard = rng.choice(shards)
        ends[shard] = index = ends.get(shard, -1) + 1
        message = Message(number, shard, index, at, rng.choice((100, 30_000)) if large else 10)
        if rng.random() < trouble:
            _trouble(rng, message, sinks)
        load.append(message)
    return load


def _trouble(rng: random.Random, message: Message, sinks: Sequence[str]) -> None:
    kind = rng.randrange(3)
    some = frozenset(rng.sample(sinks, rng.randint(1, len(sinks))))
    if kind == 0:
        message.refused_by = some
    elif kind == 1:
        message.fails_at = some
    else:
        message.damage = rng.choice(list(Damage))
        message.damaged_deliveries = rng.choice((1, 2, 1000))
        message.damaged_from = rng.choice((1, 1, 2))


def _incidents(rng: random.Random, span: float, sinks: Sequence[str], lease: float, replicas: int) -> list[Incident]:
    incidents: list[Incident] = []
    for kind in (Outage, Killed, Frozen, Stopped, ClockSet):
        for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
            at = rng.uniform(0.0, span)
            seconds = rng.choice((0.05, 1.0, 5.0, rng.uniform(0.0, lease), 2 * lease))
            replica = rng.randrange(replicas)
            if kind is Outage:
                incidents.append(Outage(at, rng.choice((lease, seconds)), rng.choice(sinks), rng.choice(list(Mode))))
            elif kind is Killed:
                incidents.append(Killed(at, replica, seconds))
            elif kind is Frozen:
                incidents.append(Frozen(at, replica, seconds))
            elif kind is Stopped:
                incidents.append(Stopped(at, replica, rng.choice((1, 1, 2, 3)), seconds))
            else:
                by = rng.choice((-1, 1)) * rng.choice((5.0, lease / 2, 900.0))
                incidents.append(ClockSet(at, rng.choice((None, replica)), by))
    return sorted(incidents, key=lambda incident: incident.at)


def _outages_alone(rng: random.Random, span: float, sinks: Sequence[str], lease: float) -> list[Incident]:
    at = rng.uniform(0.0, span)
    return [Outage(at, 10 * lease, rng.choice(sinks), Mode.RAISES)]
