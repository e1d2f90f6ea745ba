"""Every metric, by name: what it says, in which unit, and how it is read from the facts. `docs/metrics.md` is made from it.

Nothing is counted here: the loops publish facts, and a scrape turns them into metrics. Labels have a bounded number of values,
and never hold an id. What all processes have in common (CPU, memory, open files) comes from the Prometheus client.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from bridge import __version__
from bridge.watch.facts import Facts, Status
from bridge.watch.health import not_ready
from bridge.watch.histogram import Histogram


class Kind(Enum):
    """How Prometheus treats a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


Value = float | Histogram
Reading = Value | None | Mapping[str, Value]
"""One value, or one for each value of the metric's label; None where there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric, and how it is read from the facts."""

    name: str
    kind: Kind
    help: str
    read: Callable[[Facts], Reading]
    label: str | None = None
    """Its label besides those that stand on every metric."""
    values: tuple[str, ...] = ()
    """The values of the label that are there from the start, so that the first time is seen as an increase."""


def _counter(
    name: str, text: str, read: Callable[[Facts], Reading], *, label: str | None = None, values: tuple[str, ...] = ()
) -> Metric:
    return Metric(name=name, kind=Kind.COUNTER, help=text, read=read, label=label, values=values)


def _gauge(name: str, text: str, read: Callable[[Facts], Reading], *, label: str | None = None) -> Metric:
    return Metric(name=name, kind=Kind.GAUGE, help=text, read=read, label=label)


def _histogram(name: str, text: str, read: Callable[[Facts], Reading], *, label: str | None = None) -> Metric:
    return Metric(name=name, kind=Kind.HISTOGRAM, help=text, read=read, label=label)


def _by_code(facts: Facts) -> Mapping[str, float]:
    """The broker's codes are its own words, and could be anything; what doesn't look like one is `other`."""
    failures: dict[str, float] = {}
    for code, number in dict(facts.counts.not_acked).items():
        label = code if re.fullmatch(r"[A-Za-z][A-Za-z.]{0,63}", code) else "other"
        failures[label] = failures.get(label, 0) + number
    return failures


def _ledger(event: str) -> Callable[[Facts], Reading]:
    return lambda facts: facts.counts.ledger[event] if facts.ledger else None


def _ledger_lookups(facts: Facts) -> Reading:
    counts = facts.counts.ledger
    return {"made": counts["lookups"], "skipped": counts["skipped"]} if facts.ledger else None


def _remaining(facts: Facts) -> float | None:
    expire_at = facts.credentials_expire_at()
    return None if expire_at is None else expire_at - facts.wall_clock()


def _shortest_lease(facts: Facts) -> float | None:
    ends = facts.lease_ends
    return min(ends) - facts.monotonic() if ends else None


METRICS = (
    # ---- polls
    _counter(
        "bridge_polls_total",
        "Finished polls, by result: messages; empty; early, empty much sooner than asked; error; cut, whose answer was lost.",
        lambda facts: dict(facts.counts.polls),
        label="result",
        values=("messages", "empty", "early", "error", "cut"),
    ),
    _histogram(
        "bridge_poll_duration_seconds",
        "How long each poll took that was answered. An idle topic's last as long as a long poll waits.",
        lambda facts: facts.poll_seconds,
    ),
    _gauge("bridge_pollers", "How many poll at the moment: one when idle.", lambda facts: facts.pollers),
    _gauge(
        "bridge_polling_paused",
        "Whether nothing is polled on purpose (1), as while a sink is down.",
        lambda facts: facts.paused is not None,
    ),
    _gauge(
        "bridge_polls_not_held",
        "Whether the broker answers long polls at once (1), as where an instance has too many connections.",
        lambda facts: facts.short_polls is not None,
    ),
    # ---- messages
    _counter(
        "bridge_messages_received_total",
        "Deliveries received; a redelivery counts again.",
        lambda facts: facts.counts.received,
    ),
    _counter("bridge_messages_damaged_total", "Messages that could not be read.", lambda facts: facts.counts.damaged),
    _counter(
        "bridge_messages_mismatched_total",
        "Messages delivered although the MD5 of their body is not the one that the service sent; they are marked mqbodymd5.",
        lambda facts: facts.counts.mismatched,
    ),
    _counter(
        "bridge_messages_delivered_total",
        "Events that a sink has confirmed.",
        lambda facts: {name: sink.confirmed for name, sink in facts.sinks.items()},
        label="sink",
    ),
    _counter("bridge_messages_refused_total", "Events that a sink has refused for good.", lambda facts: facts.counts.refused),
    _counter(
        "bridge_dead_letters_total",
        "Dead letters that their sink has confirmed, by reason: refused, damaged, deliveries (it failed too often).",
        lambda facts: dict(facts.counts.dead_letters),
        label="reason",
        values=("refused", "damaged", "deliveries"),
    ),
    _counter(
        "bridge_duplicates_avoided_total",
        "Redeliveries that were acked without being sent, as the ledger knew that every sink had confirmed them.",
        lambda facts: facts.counts.remembered,
    ),
    _counter(
        "bridge_messages_left_total",
        "Messages left to the broker unconfirmed, which delivers them again when their lease ends, by reason.",
        lambda facts: dict(facts.counts.left),
        label="reason",
        values=(
            "not confirmed",
            "refused",
            "damaged",
            "expired",
            "no room",
            "shard busy",
            "behind damage",
            "shutdown",
        ),
    ),
    _counter(
        "bridge_leases_expired_total",
        "Messages that could not be sent, or not be acked, because their lease was over.",
        lambda facts: facts.counts.left["expired"] + facts.counts.not_acked["expired"],
    ),
    _gauge(
        "bridge_messages_in_flight",
        "Messages whose lease is in hand: received, and neither acked nor left.",
        lambda facts: len(facts.lease_ends),
    ),
    _gauge(
        "bridge_shortest_lease_seconds",
        "When the first of the leases in hand ends; absent when there is none.",
        _shortest_lease,
    ),
    _gauge(
        "bridge_messages_parked",
        "Events seen through beside the flow: waiting to be sent again, or for the sink's answer. A shard counts once.",
        lambda facts: facts.beside,
    ),
    _histogram(
        "bridge_end_to_end_latency_seconds",
        "From the publishing of a message to its confirmation by every sink. Of a scheduled message the delay is part of it.",
        lambda facts: facts.latency_seconds,
    ),
    # ---- sinks
    _histogram(
        "bridge_send_duration_seconds",
        "How long each call of a sink took, with one event or many; also those that ended with an error.",
        lambda facts: {name: sink.send_seconds for name, sink in facts.sinks.items()},
        label="sink",
    ),
    _counter(
        "bridge_send_retries_total", "Sends of events beyond the first of each lease.", lambda facts: facts.counts.retried
    ),
    # ---- acks
    _counter("bridge_messages_acked_total", "Messages acked: the end of their way.", lambda facts: facts.counts.acked),
    _counter("bridge_ack_calls_total", "Ack calls, of up to 16 messages each.", lambda facts: facts.counts.ack_calls),
    _counter(
        "bridge_ack_errors_total",
        "Ack calls without an answer that says what became of each message; each is tried again.",
        lambda facts: facts.counts.ack_errors,
    ),
    _counter(
        "bridge_ack_failures_total",
        "Messages confirmed and yet not acked, by the broker's code, or expired (too late to try), or shutdown.",
        _by_code,
        label="code",
        values=("expired", "shutdown"),
    ),
    _histogram(
        "bridge_ack_slack_seconds",
        "How much of the shortest lease of each ack was left when the ack was answered.",
        lambda facts: facts.ack_slack_seconds,
    ),
    # ---- the broker's bill
    _counter("bridge_api_calls_total", "API calls, polls and acks together.", lambda facts: sum(facts.counts.calls.values())),
    _counter(
        "bridge_billed_units_total",
        "An estimate of the units that the service bills: one for each 4 KB delivered, one for each poll without a message.",
        lambda facts: facts.counts.billed_units,
    ),
    # ---- the shared ledger
    _counter(
        "bridge_ledger_lookups_total",
        "Times when redeliveries came that the shared ledger might know, by result: made; skipped, as it was gone.",
        _ledger_lookups,
        label="result",
    ),
    _counter("bridge_ledger_hits_total", "Redeliveries that the shared ledger knew something of.", _ledger("hits")),
    _counter("bridge_ledger_failures_total", "Calls of the shared ledger that failed.", _ledger("failures")),
    _counter(
        "bridge_ledger_dropped_total", "Entries that could not be written to the shared ledger in time.", _ledger("dropped")
    ),
    # ---- health
    _gauge(
        "bridge_component_up",
        "Whether a component worked the last time it was used (1): rocketmq, each sink, and what else there is.",
        lambda facts: {component.name: component.status is Status.OK for component in facts.components},
        label="component",
    ),
    _gauge(
        "bridge_ready",
        "Whether messages flow, or would if there were any (1): what /readyz says.",
        lambda facts: not_ready(facts) is None,
    ),
    _gauge(
        "bridge_credentials_remaining_seconds",
        "When the credentials in force expire; absent when they don't, or nobody has said when.",
        _remaining,
    ),
    _histogram(
        "bridge_event_loop_lag_seconds",
        "By how much the event loop was late, measured four times a second. Much of it: too little processor, or a sink that "
        "blocks.",
        lambda facts: facts.loop_lag_seconds,
    ),
    _gauge(
        "bridge_event_loop_stuck_seconds",
        "For how long the event loop has not turned; 0 when it turns.",
        lambda facts: facts.loop_stuck_seconds,
    ),
    # ---- what the management API says
    _gauge(
        "bridge_backlog_messages",
        "Messages that the group has not consumed yet, as the management API says; absent when it isn't known.",
        lambda facts: facts.consumer.backlog.messages if facts.consumer.backlog else None,
    ),
    _gauge(
        "bridge_backlog_delay_seconds",
        "How old the oldest of them is; absent when it isn't known.",
        lambda facts: facts.consumer.backlog.delay_seconds if facts.consumer.backlog else None,
    ),
    _gauge(
        "bridge_consumer_connections",
        "Clients of the group that the management API lists; absent when it isn't known.",
        lambda facts: facts.consumer.listed.number if facts.consumer.listed else None,
    ),
    # ---- the process
    _gauge(
        "bridge_start_time_seconds", "When the process started, in seconds since the epoch.", lambda facts: facts.started_at
    ),
    _gauge(
        "bridge_build_info",
        "Always 1; the label is the version of rocketmq-bridge.",
        lambda _: {__version__: 1},
        label="version",
    ),
)


class _FactsCollector(Collector):
    def __init__(self, facts: Facts, labels: Mapping[str, str]) -> None:
        self._facts = facts
        self._labels = dict(labels)

    def collect(self) -> Iterable[Family]:
        """What the library asks for with each scrape."""
        for metric in METRICS:
            reading = metric.read(self._facts)
            if isinstance(reading, Mapping):
                yield self._family(metric, {**dict.fromkeys(metric.values, 0), **reading})
            elif reading is not None:
                yield self._family(metric, {None: reading})

    def _family(self, metric: Metric, readings: Mapping[str, Value] | Mapping[None, Value]) -> Family:
        names = [*self._labels, *([metric.label] if metric.label else [])]
        family = _FAMILIES[metric.kind](metric.name, metric.help, labels=names)
        for label, value in readings.items():
            family.add_metric([*self._labels.values(), *([] if label is None else [label])], *_sample(value))
        return family


class _LabelledProcessCollector(ProcessCollector):
    """The Prometheus client's own, with the labels that stand on every metric; nothing where there is no /proc."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        super().__init__(registry=None)
        self._labels = dict(labels)

    def collect(self) -> Iterable[Family]:
        """What the library asks for with each scrape."""
        for family in super().collect():
            family.samples = [sample._replace(labels=self._labels) for sample in family.samples]
            yield family


_FAMILIES: Mapping[Kind, type[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]] = {
    Kind.COUNTER: CounterMetricFamily,
    Kind.GAUGE: GaugeMetricFamily,
    Kind.HISTOGRAM: HistogramMetricFamily,
}


def _sample(value: Value) -> tuple[Any, ...]:
    """A value as the library's families want it: a number, or buckets that hold what the smaller ones hold, and the sum."""
    if not isinstance(value, Histogram):
        return (value,)
    counts, total = value.copy()
    bounds = [*map(str, value.bounds), "+Inf"]
    return list(zip(bounds, accumulate(counts), strict=True)), total


class Exposition:
    """The metrics as text, with the same labels on each."""

    def __init__(self, facts: Facts, labels: Mapping[str, str]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_FactsCollector(facts, labels))
        self._registry.register(_LabelledProcessCollector(labels))

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """The text, and its media type: that of Prometheus, or OpenMetrics where the `Accept` header asks for it."""
        write, media_type = choose_encoder(accept)
        return write(self._registry), media_type
