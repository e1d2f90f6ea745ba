"""The emulator's own pages, beside the service's API: faults, books, calls. They need no signature."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from aiohttp import web
from pydantic import ValidationError

from bridge.emulator.api import AccessKey
from bridge.emulator.books import GroupBook, TopicBook
from bridge.emulator.broker import Broker
from bridge.emulator.faults import Faults

_PAGE = """A local ApsaraMQ for RocketMQ, HTTP protocol (API 2015-06-06). The official SDKs use it unmodified.

  endpoint          {url}
  access key id     {access_key_id}

Point a bridge at it:

  BRIDGE_ROCKETMQ__ENDPOINT={url}
  BRIDGE_ROCKETMQ__ACCESS_KEY_ID={access_key_id}
  BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET=(the one that the emulator was started with)
  BRIDGE_ROCKETMQ__TOPIC=any-topic
  BRIDGE_ROCKETMQ__GROUP_ID=GID_any

The management API (OnsConsumerGetConnection, OnsConsumerAccumulate, OnsConsumerStatus) is there, too:

  BRIDGE_MANAGEMENT__ENABLED=true
  BRIDGE_MANAGEMENT__ENDPOINT={url}

Look and interfere:

  GET   /emulator/books   what has become of the messages (?instance=&topic=&group=&ids=true)
  GET   /emulator/calls   how often each call was made
  GET   /emulator/faults  what can go wrong, and how often it does now
  PATCH /emulator/faults  change that, with a JSON object of some of these
  PUT   /emulator/key     know another key from now on, and no more the old one:
                          {{"access_key_id": "…", "access_key_secret": "…"}}
"""


class Control:
    """Serves the pages. `changed` is called when the faults have changed."""

    def __init__(
        self, broker: Broker, faults: Faults, *, access_key: AccessKey, now: Callable[[], int], changed: Callable[[], None]
    ) -> None:
        self._broker = broker
        self._faults = faults
        self._access_key = access_key
        self._now = now
        self._changed = changed

    def answer(self, request: web.BaseRequest, body: bytes) -> web.Response:
        """Serve one request; `body` is what came with it."""
        route = f"{request.method} {request.path}"
        if route == "GET /":
            url = f"{request.scheme}://{request.host}"
            return web.Response(text=_PAGE.format(url=url, access_key_id=self._access_key.key_id))
        answers: dict[str, Callable[[], web.Response]] = {
            "GET /emulator/faults": lambda: _json(self._faults.model_dump()),
            "PATCH /emulator/faults": lambda: self._change_faults(body),
            "PUT /emulator/key": lambda: self._change_key(body),
            "GET /emulator/books": lambda: self._books(request.query),
            "GET /emulator/calls": self._calls,
        }
        if route in answers:
            return answers[route]()
        return _json({"error": f"there is no {route} here; GET / lists what there is"}, status=404)

    def _calls(self) -> web.Response:
        return _json([{**dataclasses.asdict(call), "calls": number} for call, number in self._broker.calls.items()])

    def _change_faults(self, body: bytes) -> web.Response:
        try:
            changes = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            return _json({"error": f"reading the request's JSON: {error}"}, status=400)
        if not isinstance(changes, dict):
            return _json({"error": "the request's JSON is not an object"}, status=400)
        try:
            changed = Faults.model_validate(self._faults.model_dump() | changes)
        except ValidationError as error:
            problems = [{"fault": ".".join(map(str, detail["loc"])), "problem": detail["msg"]} for detail in error.errors()]
            return _json({"error": "nothing was changed", "problems": problems}, status=400)
        for name in changes:
            setattr(self._faults, name, getattr(changed, name))
        self._changed()
        return _json(self._faults.model_dump())

    def _change_key(self, body: bytes) -> web.Response:
        try:
            key = orjson.loads(body)
            key_id, secret = key["access_key_id"], key["access_key_secret"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            key_id = secret = None
        if not (isinstance(key_id, str) and isinstance(secret, str) and key_id and secret):
            return _json({"error": "a key is a JSON object with access_key_id and access_key_secret, both text"}, status=400)
        self._access_key.key_id, self._access_key.secret = key_id, secret
        return _json({"access_key_id": key_id})

    def _books(self, query: Mapping[str, str]) -> web.Response:
        topics = [
            self._topic(book, query)
            for book in self._broker.books(self._now())
            if query.get("topic") in {None, book.topic} and query.get("instance") in {None, book.instance or ""}
        ]
        return _json({"topics": topics})

    def _topic(self, book: TopicBook, query: Mapping[str, str]) -> dict[str, Any]:
        with_ids = query.get("ids") == "true"
        topic: dict[str, Any] = dataclasses.asdict(book)
        topic["groups"] = {
            name: self._group(book, name, group, with_ids=with_ids)
            for name, group in book.groups.items()
            if query.get("group") in {None, name}
        }
        if with_ids:
            topic["ids"] = self._broker.published_ids(self._now(), book.topic, instance=book.instance)
        return topic

    def _group(self, topic: TopicBook, name: str, book: GroupBook, *, with_ids: bool) -> dict[str, Any]:
        group = {**dataclasses.asdict(book), "backlog": book.backlog}
        if with_ids:
            ids = self._broker.group_ids(self._now(), topic.topic, name, instance=topic.instance)
            group["ids"] = dataclasses.asdict(ids)
        return group


def _json(value: Any, *, status: int = 200) -> web.Response:
    body = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return web.Response(body=body, status=status, content_type="application/json")
