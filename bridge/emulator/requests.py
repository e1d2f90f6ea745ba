"""What a request line asks for (protocol.md 2.1, 3.1, 4.1)."""

import re
import urllib.parse
from dataclasses import dataclass

from bridge.emulator.errors import ServiceError
from bridge.emulator.names import check_group
from bridge.emulator.queues import Subscription, parse_tags
from bridge.rocketmq.message import MAX_BATCH, MAX_REQUEST_LINE, MAX_WAIT_SECONDS

_TARGET = re.compile(r"/topics/([^/?]+)/messages(?:\?(.*))?", re.DOTALL)
_INTEGER = re.compile(r"-?[0-9]{1,9}")

_ITEMS = {
    "GET": frozenset({"consumer", "ns", "numOfMessages", "waitseconds", "tag", "trans"}),
    "DELETE": frozenset({"consumer", "ns", "trans"}),
    "POST": frozenset({"ns"}),
}
"""The query items that each method knows; SDKs send them in any order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consume:
    """A poll."""

    instance: str | None
    topic: str
    group: str
    half: bool
    """`trans=pop`: half messages, for the group of their producer."""
    subscription: Subscription
    count: int
    wait: int
    """How long to wait for a message, in seconds; 0 for not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """An ack, or the commit or rollback of half messages."""

    instance: str | None
    topic: str
    group: str
    kind: str
    """`ack`, `commit` or `rollback`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """A publish."""

    instance: str | None
    topic: str


def parse_request(method: str, target: str) -> Consume | Ack | Publish:
    """Read a request line; raises the `ServiceError` that a wrong one deserves."""
    if method not in _ITEMS:
        raise ServiceError("HTTPForbidden")
    if len(f"{method} {target} HTTP/1.1") > MAX_REQUEST_LINE:
        raise ServiceError("InvalidRequestURL", f"The request line is longer than {MAX_REQUEST_LINE} characters.")
    match = _TARGET.fullmatch(target)
    if match is None:
        raise ServiceError("InvalidRequestURL", "The path is not /topics/<TopicName>/messages.")
    topic = urllib.parse.unquote(match[1])
    query = _query(method, match[2] or "")
    instance = query.get("ns") or None
    if method == "POST":
        return Publish(instance=instance, topic=topic)
    if method == "DELETE":
        return _ack(instance, topic, query)
    return _consume(instance, topic, query)


def _query(method: str, text: str) -> dict[str, str]:
    if "|" in text:  # the service wants it encoded (protocol.md 2.1)
        raise ServiceError("InvalidQueryString", "The query holds an unencoded |.")
    query: dict[str, str] = {}
    # As in a form: Go, Java, PHP and C++ send + for a space (protocol.md 2.1).
    for name, value in urllib.parse.parse_qsl(text, keep_blank_values=True):
        if name not in _ITEMS[method] or name in query:
            raise ServiceError("InvalidQueryString", f"The query item {name!r} is unexpected.")
        query[name] = value
    return query


def _ack(instance: str | None, topic: str, query: dict[str, str]) -> Ack:
    kind = query.get("trans") or "ack"
    if kind not in {"ack", "commit", "rollback"}:
        raise ServiceError("InvalidArgument", "The value of trans is neither commit nor rollback.")
    group = query.get("consumer", "")
    # Go sends an empty consumer when it commits on an instance without a namespace (protocol.md 2.1).
    if group or kind == "ack":
        check_group(group)
    return Ack(instance=instance, topic=topic, group=group, kind=kind)


def _consume(instance: str | None, topic: str, query: dict[str, str]) -> Consume:
    trans = query.get("trans", "")
    if trans not in {"", "order", "pop"}:
        raise ServiceError("InvalidArgument", "The value of trans is neither order nor pop.")
    group = query.get("consumer", "")
    check_group(group)
    count = _integer(query, "numOfMessages")
    if not 1 <= count <= MAX_BATCH:
        raise ServiceError("InvalidArgument", f"The value of numOfMessages is not between 1 and {MAX_BATCH}.")
    # PHP sends -1 for no wait (protocol.md 2.1).
    wait = _integer(query, "waitseconds") if query.get("waitseconds") else 0
    if wait > MAX_WAIT_SECONDS:
        raise ServiceError("InvalidArgument", f"The value of waitseconds is not between 0 and {MAX_WAIT_SECONDS}.")
    return Consume(
        instance=instance,
        topic=topic,
        group=group,
        half=trans == "pop",
        subscription=Subscription(parse_tags(query.get("tag", "")), ordered=trans == "order"),
        count=count,
        wait=max(wait, 0),
    )


def _integer(query: dict[str, str], name: str) -> int:
    text = query.get(name, "")
    if not _INTEGER.fullmatch(text):
        raise ServiceError("InvalidArgument", f"The value of {name} is not an integer.")
    return int(text)
