"""The page at `/`, for people: one file that asks for `page.json` every other second, and nothing else of anybody."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from bridge.variables import Shown
from bridge.watch.face import Handler
from bridge.watch.facts import Facts, SinkComponent, instant
from bridge.watch.headline import headline
from bridge.watch.health import report
from bridge.watch.history import Sample

_HTML = Path(__file__).with_name("page.html").read_text(encoding="utf-8")


def _hashes(tag: str) -> str:
    """What the policy calls the inline elements of a tag: nothing that isn't in our file is run, or styles anything."""
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", _HTML, re.DOTALL)
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in found)


_PROTECTION = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_HTML_HEADERS = {
    **_PROTECTION,
    "Cache-Control": "no-cache",
    # Texts of others stand on the page. Trusted types keep even our own script from making HTML of one.
    "Content-Security-Policy": f"default-src 'none'; script-src {_hashes('script')}; style-src {_hashes('style')}; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
}
_JSON_HEADERS = {**_PROTECTION, "Cache-Control": "no-store"}


class Page:
    """The page, and the JSON that it lives on."""

    def __init__(self, facts: Facts, *, topic: str, group: str, settings: Sequence[Shown]) -> None:
        self._facts = facts
        self._constant = {"topic": topic, "group": group, "settings": settings}

    @property
    def routes(self) -> Mapping[str, Handler]:
        """What is served, by path."""
        return {"/": self._html, "/page.json": self._json}

    def _html(self, _: web.BaseRequest) -> web.Response:
        return web.Response(text=_HTML, content_type="text/html", headers=_HTML_HEADERS)

    def _json(self, _: web.BaseRequest) -> web.Response:
        return web.Response(body=orjson.dumps(self._state()), content_type="application/json", headers=_JSON_HEADERS)

    def _state(self) -> dict[str, Any]:
        facts, said = self._facts, headline(self._facts)
        return {
            **self._constant,
            "now": instant(facts.wall_clock()),
            "headline": {**asdict(said), "since": instant(said.since)},
            "report": report(facts),
            "lease_seconds": facts.lease_seconds,
            "sinks": [_sink(name, sink) for name, sink in facts.sinks.items()],
            "dead_letter": facts.dead_letter and _sink("dead letters", facts.dead_letter),
            "history": _history(facts.history.samples, now=facts.monotonic()),
        }


def _sink(name: str, component: SinkComponent) -> dict[str, Any]:
    return {"name": name, "component": component.name, "confirmed": component.confirmed}


def _history(samples: Sequence[Sample], *, now: float) -> list[dict[str, Any]]:
    """What happened between each sample and the next."""
    return [
        {
            "seconds_ago": round(now - later.at, 1),
            "per_minute": round((later.acked - earlier.acked) / (later.at - earlier.at) * 60, 1),
            "latency_seconds": _mean_latency(earlier, later),
            "in_hand": later.in_flight,
            "backlog": later.backlog,
        }
        for earlier, later in pairwise(samples)
    ]


def _mean_latency(earlier: Sample, later: Sample) -> float | None:
    messages = later.latencies - earlier.latencies
    return round((later.latency_seconds - earlier.latency_seconds) / messages, 4) if messages else None
