"""Health over HTTP. A probe calls nobody: it reads the facts that the loops have published."""

import logging
from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from bridge import __version__
from bridge.errors import FixSettingsError
from bridge.watch.facts import Facts, Phase, Status, instant


def not_ready(facts: Facts) -> str | None:
    """Why messages don't flow, or can't be expected to; None when they do, or would if there were any."""
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


def report(facts: Facts) -> dict[str, object]:
    """Everything there is to say, as JSON."""
    counts = facts.counts
    if facts.phase is Phase.RUNNING:
        status = (
            "failing" if any(c.status is Status.FAILING for c in facts.components) else "starting" if not_ready(facts) else "ok"
        )
    else:
        status = facts.phase.value
    return {
        "status": status,
        "version": __version__,
        "since": instant(facts.started_at),
        "connected": not_connected(facts) is None,
        "ready": not_ready(facts) is None,
        "reason": not_ready(facts),
        "components": {component.name: component.report() for component in facts.components},
        "polling": {"pollers": facts.pollers, "paused": facts.paused, "polls": dict(counts.polls), "acks": counts.ack_calls},
        "messages": {
            "received": counts.received,
            "damaged": counts.damaged,
            "confirmed": counts.confirmed,
            "refused": counts.refused,
            "retried": counts.retried,
            "dead_letters": dict(counts.dead_letters),
            "remembered": counts.remembered,
            "acked": counts.acked,
            "not_acked": dict(counts.not_acked),
            "left": dict(counts.left),
            "beside": facts.beside,
        },
    }


def _nothing(_: Facts) -> None:
    """The event loop answers, so it turns."""


Handler = Callable[[web.Request], Awaitable[web.Response]]


def _answer(facts: Facts, fault: Callable[[Facts], str | None]) -> Handler:
    async def handle(_: web.Request) -> web.Response:
        reason = fault(facts)
        return web.Response(status=503 if reason else 200, text=f"{reason or 'ok'}\n")

    return handle


def _healthz(facts: Facts) -> Handler:
    async def handle(_: web.Request) -> web.Response:
        body = orjson.dumps(report(facts), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
        return web.Response(status=503 if not_connected(facts) else 200, body=body, content_type="application/json")

    return handle


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a log record is about a fault of ours, and not about somebody who sends what is no HTTP, as port scanners do."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_log = logging.getLogger("bridge.health")
_log.addFilter(_is_ours)


async def serve(facts: Facts, *, host: str, port: int) -> tuple[web.AppRunner, int]:
    """Serve /livez, /readyz and /healthz until the runner's `cleanup`; tell the port. Raises FixSettingsError when it can't."""
    app = web.Application()
    app.router.add_get("/livez", _answer(facts, _nothing))
    app.router.add_get("/readyz", _answer(facts, not_ready))
    app.router.add_get("/healthz", _healthz(facts))
    runner = web.AppRunner(app, access_log=None, logger=_log, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except (OSError, UnicodeError) as problem:  # UnicodeError: a host that can be no name
        await runner.cleanup()
        what = getattr(problem, "strerror", None) or problem
        raise FixSettingsError(
            f"BRIDGE_HTTP__HOST and __PORT: listening on {host} port {port}: {what}; name another, or port 0 for any"
        ) from problem
    return runner, int(runner.addresses[0][1])
