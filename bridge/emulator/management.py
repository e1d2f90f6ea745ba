"""The management API (product Ons, version 2019-02-14), as far as it looks on at consumers (protocol.md 8)."""

import random
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import orjson

from bridge.emulator import acs3
from bridge.emulator.api import AccessKey, Request
from bridge.emulator.books import Backlog
from bridge.emulator.broker import Broker
from bridge.emulator.connections import Connection, Connections
from bridge.emulator.errors import ManagementError, ServiceError
from bridge.emulator.faults import Faults, hits
from bridge.emulator.names import check_group

VERSION = "2019-02-14"

_GARBAGE = b"<html><head><title>Welcome</title></head><body><h1>It works!</h1></body></html>\n"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back."""

    status: int
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """What is asked, and what is the case."""

    instance: str | None
    group: str
    now: int
    """In milliseconds since the epoch."""
    detail: bool
    listed: list[Connection]
    backlogs: dict[str, Backlog]
    """By topic."""
    told_delay: int | None
    """In milliseconds; None for the true one."""
    offline_empty: bool
    """Whether an empty list says that nobody is online, and not an error."""


class Management:
    """Answers management calls with what is the case at the broker: those who poll, and what is not acked yet.

    What the emulator doesn't measure is not in its answers: no rates of consumption, no stacks of threads. `now` reads the
    service's clock, in milliseconds.
    """

    def __init__(
        self,
        broker: Broker,
        connections: Connections,
        *,
        access_key: AccessKey,
        faults: Faults,
        now: Callable[[], int],
        rng: random.Random,
    ) -> None:
        self._broker = broker
        self._connections = connections
        self._access_key = access_key
        self._faults = faults
        self._now = now
        self._rng = rng
        self.calls: Counter[str] = Counter()
        """How often each operation was called by whoever may call it."""

    def answer(self, request: Request) -> Answer:
        """Do what a request asks for."""
        request_id = str(uuid.UUID(int=self._rng.getrandbits(128), version=4)).upper()
        headers = {"Content-Type": "application/json;charset=utf-8", "x-acs-request-id": request_id}
        try:
            if hits(self._faults.management_garbage, self._rng):
                return Answer(200, _GARBAGE, {"Content-Type": "text/html"})
            body: Json = {"RequestId": request_id, **self._answer(request)}
            status = 200
        except ManagementError as error:
            host = request.headers.get(b"host", b"localhost").decode("latin-1")
            body = {"RequestId": request_id, "HostId": host, "Code": error.code, "Message": error.message, "Recommend": ""}
            status = error.status
            if error.code == self._faults.management_error and self._faults.management_retry_after_ms is not None:
                headers["x-acs-retry-after"] = str(self._faults.management_retry_after_ms)
        return Answer(status, orjson.dumps(body), headers)

    def _answer(self, request: Request) -> Json:
        # As in a form: SDKs send + for a space (protocol.md 8.1).
        query = dict(parse_qsl(request.target.partition("?")[2], keep_blank_values=True))
        action = self._authorize(request)
        operation = _OPERATIONS.get(action)
        if operation is None:
            raise ManagementError("InvalidAction.NotFound", f"There is no {action!r} here.", status=404)
        self.calls[action] += 1
        faults = self._faults
        if faults.management_error is not None:
            raise ManagementError(faults.management_error, "So it was asked for.", status=faults.management_error_status or 400)
        if action in faults.management_answers:
            return faults.management_answers[action]
        return {"Data": operation(self._look(query))}

    def _authorize(self, request: Request) -> str:
        """The operation that is called, by somebody who may."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers.items()}
        acs3.authorize(
            request.method,
            request.target,
            headers,
            request.body,
            now=self._now(),
            access_key_id="" if self._faults.key_withdrawn else self._access_key.key_id,
            access_key_secret=self._access_key.secret,
        )
        if headers["x-acs-version"] != VERSION:
            raise ManagementError("InvalidVersion", f"The header x-acs-version is not {VERSION}.")
        return headers["x-acs-action"]

    def _look(self, query: Mapping[str, str]) -> _Call:
        group, instance = query.get("GroupId", ""), query.get("InstanceId") or None
        if not group:
            raise ManagementError("MissingGroupId", "GroupId is mandatory for this action.")
        try:
            check_group(group)
        except ServiceError as error:
            raise ManagementError("BIZ_FIELD_CHECK_INVALID", error.message) from error
        now, delay = self._now(), self._faults.management_delay_seconds
        return _Call(
            instance=instance,
            group=group,
            now=now,
            # SDKs write True and true (protocol.md 8.1).
            detail=query.get("Detail", "").lower() == "true",
            listed=[] if self._faults.management_unlisted else self._connections.of(now, instance=instance, group=group),
            backlogs=self._broker.backlogs(now, group, instance=instance),
            told_delay=None if delay is None else round(delay * 1000),
            offline_empty=self._faults.management_offline_empty,
        )


# ---- the operations, each with the `Data` of its answer (protocol.md 8.3) ---------------------------------------------


def _get_connection(call: _Call) -> Json:
    _check_online(call)
    return {"MessageModel": "CLUSTERING", "ConnectionList": {"ConnectionDo": [_connection(one) for one in call.listed]}}


def _accumulate(call: _Call) -> Json:
    _check_subscribed(call)
    details = {"DetailInTopicList": {"DetailInTopicDo": _details(call)}} if call.detail else {}
    return {"Online": bool(call.listed), **_behind(call, *call.backlogs.values()), **details}


def _status(call: _Call) -> Json:
    _check_subscribed(call)
    _check_online(call)
    subscriptions = {frozenset(one.subscriptions.items()) for one in call.listed}
    status: Json = {
        "InstanceId": call.instance or "",
        "Online": bool(call.listed),
        "ConsumeModel": "CLUSTERING",
        "SubscriptionSame": len(subscriptions) <= 1,
        "RebalanceOK": True,  # over HTTP there is nothing to balance
        **_behind(call, *call.backlogs.values()),
        "ConnectionSet": {"ConnectionDo": [{**_connection(one), "RemoteIP": one.peer.address} for one in call.listed]},
    }
    if call.detail:
        status["DetailInTopicList"] = {"DetailInTopicDo": _details(call)}
        clients = [_client(one) for one in call.listed]
        status["ConsumerConnectionInfoList"] = {"ConsumerConnectionInfoDo": clients}
    return status


_OPERATIONS = {
    "OnsConsumerGetConnection": _get_connection,
    "OnsConsumerAccumulate": _accumulate,
    "OnsConsumerStatus": _status,
}


def _check_online(call: _Call) -> None:
    if not call.listed and not call.offline_empty:
        raise ManagementError("BIZ_CONSUMER_NOT_ONLINE", f"No consumer of {call.group} is online.")


def _check_subscribed(call: _Call) -> None:
    if not call.backlogs:
        raise ManagementError("BIZ_SUBSCRIPTION_NOT_FOUND", f"The group {call.group} has no subscription.")


def _connection(connection: Connection) -> Json:
    return {
        "ClientId": connection.client_id,
        "ClientAddr": connection.address,
        "Language": connection.language,
        "Version": connection.version,
    }


def _client(connection: Connection) -> Json:
    return {
        "ClientId": connection.client_id,
        "Connection": connection.address,
        "ConsumeModel": "CLUSTERING",
        "ConsumeType": "CONSUME_ACTIVELY",  # it polls
        "Language": connection.language,
        "Version": connection.version,
        "StartTimeStamp": connection.since,
        "LastTimeStamp": connection.last_poll,  # spelled otherwise than on Data (protocol.md 8.3)
        "SubscriptionSet": {
            "SubscriptionData": [
                {"Topic": topic, "SubString": tags, "TagsSet": {"Tag": [] if tags == "*" else tags.split("||")}}
                for topic, tags in connection.subscriptions.items()
            ]
        },
    }


def _details(call: _Call) -> list[Json]:
    return [{"Topic": topic, **_behind(call, backlog)} for topic, backlog in call.backlogs.items()]


def _behind(call: _Call, *backlogs: Backlog) -> Json:
    delays = [call.now - backlog.oldest for backlog in backlogs if backlog.oldest is not None]
    return {
        "TotalDiff": sum(backlog.messages for backlog in backlogs),
        "DelayTime": max(delays, default=0) if call.told_delay is None else call.told_delay,
        "LastTimestamp": max([backlog.last_consumed or 0 for backlog in backlogs], default=0),
    }
