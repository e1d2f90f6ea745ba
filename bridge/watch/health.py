"""How the bridge is. A probe calls nobody: it reads the facts that the loops have published."""

from typing import Literal

from bridge import __version__
from bridge.watch.consumer import Connection, Consumer, ConsumerStatus
from bridge.watch.event_loop import stuck
from bridge.watch.facts import Component, Facts, Phase, Status, instant
from bridge.watch.report import (
    BillingReport,
    ComponentReport,
    ConnectionReport,
    ConsumerReport,
    LeasesReport,
    MessagesReport,
    PollingReport,
    Report,
    ThroughputReport,
)


def not_ready(facts: Facts) -> str | None:
    """Why messages don't flow, or can't be expected to; None when they do, or would if there were any."""
    if reason := stuck(facts):
        return reason
    if facts.phase is not Phase.RUNNING:
        return str(facts.phase.value)
    for sink in facts.sinks.values():
        if not sink.ok:
            return f"{sink.name}: {sink.last_error or sink.status.value}"
    return not_connected(facts)


def not_connected(facts: Facts) -> str | None:
    """Why the consumer isn't connected to the broker; None when its last finished poll succeeded."""
    if facts.rocketmq.ok:
        return None
    return f"rocketmq: {facts.rocketmq.last_error or 'no poll has finished yet'}"


def unhealthy(facts: Facts) -> str | None:
    """Why the whole is ill; None when it is well."""
    if facts.offline_fails_health and facts.consumer.status is ConsumerStatus.OFFLINE:
        return f"consumer: {facts.consumer.reason}"
    return stuck(facts) or not_connected(facts)


def report(facts: Facts) -> Report:
    """Everything there is to say, as JSON."""
    status, reason = _status(facts)
    return {
        "status": status,
        "reason": reason,
        "version": __version__,
        "since": instant(facts.started_at),
        "connected": not_connected(facts) is None,
        "ready": not_ready(facts) is None,
        "stuck_seconds": facts.loop_stuck_seconds,
        "components": {component.name: _component(component) for component in facts.components},
        "consumer": _consumer(facts.consumer),
        "credentials_expire_at": instant(facts.credentials_expire_at()),
        "polling": _polling(facts),
        "throughput": _throughput(facts),
        "leases": _leases(facts),
        "messages": _messages(facts),
        "billing": _billing(facts),
    }


def _status(facts: Facts) -> tuple[Literal["starting", "ok", "failing", "draining"], str | None]:
    reason = not_ready(facts)
    if facts.phase is Phase.DRAINING:
        return "draining", reason
    if facts.phase is Phase.STARTING:
        return "starting", reason
    failing = [f"{c.name}: {c.last_error}" for c in facts.components if c.status is Status.FAILING]
    if failing or stuck(facts):
        return "failing", reason or failing[0]
    return ("starting", reason) if reason else ("ok", None)


_ADVICE = {
    "rocketmq": "no message comes meanwhile, and none is lost; it goes on by itself. See to the endpoint, the access key, its "
    "permission mq:SUB, and the network",
    "rocketmq acks": "what was delivered comes again, and is recognised and not sent twice. See to the access key's permission "
    "mq:SUB, and the network",
    "dead_letter": "what would be a dead letter stays with the broker, and comes again. See to the sink of dead letters",
    "ledger": "messages are delivered all the same, but one that comes again may be sent again. See to the Redis of "
    "BRIDGE_LEDGER__REDIS_URL",
    "credentials": "those in force are used for as long as the service takes them. See to where new ones come from",
    "management": "messages are delivered all the same; who is connected, and the backlog, are not known",
    "tracing": "messages are delivered all the same; their spans are lost. See to the collector of OTEL_EXPORTER_OTLP_ENDPOINT",
}
_ADVICE_FOR_A_SINK = (
    "nothing is lost: nothing is polled meanwhile, messages wait with the broker, and it goes on by itself. See to the sink"
)


def _component(component: Component) -> ComponentReport:
    failing = component.status is Status.FAILING
    return {
        "status": component.status,
        "since": instant(component.since),
        "last_ok": instant(component.last_ok),
        "last_error": component.last_error,
        "last_error_at": instant(component.last_error_at),
        "advice": _ADVICE.get(component.name, _ADVICE_FOR_A_SINK) if failing else None,
    }


def _consumer(consumer: Consumer) -> ConsumerReport:
    listed, backlog = consumer.listed, consumer.backlog
    return {
        "status": consumer.status,
        "reason": consumer.reason,
        "checked_at": instant(consumer.checked_at),
        "model": listed.model if listed else None,
        "connected": listed.number if listed else None,
        "connections": [_connection(connection) for connection in listed.connections] if listed else [],
        "backlog_messages": backlog.messages if backlog else None,
        "delay_seconds": backlog.delay_seconds if backlog else None,
    }


def _connection(connection: Connection) -> ConnectionReport:
    return {
        "client_id": connection.client_id,
        "address": connection.address,
        "language": connection.language,
        "version": connection.version,
    }


def _polling(facts: Facts) -> PollingReport:
    return {
        "pollers": facts.pollers,
        "paused": facts.paused,
        "short_polls": facts.short_polls,
        "polls": dict(facts.counts.polls),
        "acks": facts.counts.ack_calls,
    }


def _throughput(facts: Facts) -> ThroughputReport | None:
    lately = facts.throughput
    if lately is None:
        return None
    return {
        "over_seconds": round(lately.over_seconds, 1),
        "received_per_second": round(lately.received_per_second, 2),
        "acked_per_second": round(lately.acked_per_second, 2),
    }


def _leases(facts: Facts) -> LeasesReport:
    ends = facts.lease_ends
    return {"in_hand": len(ends), "shortest_seconds": round(min(ends) - facts.monotonic(), 1) if ends else None}


def _messages(facts: Facts) -> MessagesReport:
    counts = facts.counts
    return {
        # What comes last is read first, as all of it goes on meanwhile: so no more is acked than was received.
        "acked": counts.acked,
        "not_acked": dict(counts.not_acked),
        "confirmed": counts.confirmed,
        "remembered": counts.remembered,
        "dead_letters": dict(counts.dead_letters),
        "left": dict(counts.left),
        "beside": facts.beside,
        "refused": counts.refused,
        "retried": counts.retried,
        "trials": counts.trials,
        "damaged": counts.damaged,
        "received": counts.received,
    }


def _billing(facts: Facts) -> BillingReport:
    counts = facts.counts
    return {
        "calls": {"consume": counts.calls["consume"], "ack": counts.calls["ack"]},
        "calls_per_acked_message": counts.calls_per_message,
        "billed_units": counts.billed_units,
    }
