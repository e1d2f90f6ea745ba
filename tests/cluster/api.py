"""The API of Kubernetes, by plain HTTP: what is there, what is made, what changes."""

import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

Manifest = dict[str, Any]
T = TypeVar("T")
Query = Mapping[str, str]

UNFOUNDED = "spec.SessionAffinity is ignored for headless services"
"""What Kubernetes 1.34.1 remarks on every headless Service, whatever it says: kubernetes/kubernetes#134040."""

_JSON = "application/json"
_SECONDS = 20.0
"""That a call may take."""


class ApiError(Exception):
    """The API server said no; the text is its reason."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Made(NamedTuple):
    """What the server made of a request, and what it remarks on it."""

    manifest: Manifest
    warnings: list[str]


@dataclass(frozen=True)
class Resource:
    """A kind of things that can be listed."""

    api_version: str
    name: str
    kind: str
    namespaced: bool

    def path(self, namespace: str | None) -> str:
        """Where its things are."""
        version = f"api/{self.api_version}" if "/" not in self.api_version else f"apis/{self.api_version}"
        return f"/{version}/namespaces/{namespace}/{self.name}" if self.namespaced else f"/{version}/{self.name}"


@dataclass(frozen=True)
class Api:
    """Of the server on a port of this machine, for the holder of a token."""

    port: int
    ca: Path
    token: str

    def get(self, path: str, **query: str) -> Manifest:
        """Raises ApiError, and OSError without a server."""
        return self._call("GET", path, query).manifest

    def delete(self, path: str) -> None:
        self._call("DELETE", path, {})

    def create(self, path: str, manifest: Manifest, **query: str) -> Made:
        """Something below a path; a field that the server doesn't know is an error."""
        return self._call("POST", path, {"fieldValidation": "Strict", **query}, manifest)

    def patch(self, path: str, changes: Manifest) -> Manifest:
        """Merge changes into what is there."""
        return self._call("PATCH", path, {}, changes, "application/merge-patch+json").manifest

    def path_of(self, manifest: Manifest, namespace: str) -> str:
        """Where things of its kind are."""
        kind = manifest["apiVersion"], manifest["kind"]
        return next(each for each in self.resources if (each.api_version, each.kind) == kind).path(namespace)

    @cached_property
    def resources(self) -> list[Resource]:
        """All that can be listed."""
        groups = self.get("/apis")["groups"]
        paths = {"v1": "/api/v1"} | {
            version["groupVersion"]: f"/apis/{version['groupVersion']}" for group in groups for version in group["versions"]
        }
        return [
            Resource(version, each["name"], each["kind"], each["namespaced"])
            for version, path in paths.items()
            for each in self.get(path)["resources"]
            if "list" in each["verbs"]
        ]

    def wait(self, path: str, condition: Callable[[Sequence[Manifest]], T | None], *, seconds: float = _SECONDS) -> T:
        """Follow what a path lists until the condition answers, with anything but None; its answer.

        Raises TimeoutError, with the last that was seen.
        """
        until = time.monotonic() + seconds
        seen: list[Manifest] = []
        for seen in self.changes(path, seconds=seconds):
            answer = condition(seen)
            if answer is not None:
                return answer
            if time.monotonic() > until:
                break
        raise TimeoutError(f"{path} after {seconds} s: {json.dumps(seen, indent=1)}")

    def changes(self, path: str, *, seconds: float) -> Iterator[list[Manifest]]:
        """All that a path lists, now and after each change, for so long."""
        listing = self.get(path)
        found = {each["metadata"]["uid"]: each for each in listing["items"]}
        yield list(found.values())
        query = {
            "watch": "true",
            "resourceVersion": listing["metadata"]["resourceVersion"],
            "timeoutSeconds": str(max(1, round(seconds))),
        }
        with self._answer("GET", path, query, timeout=seconds + _SECONDS) as response:
            for line in response:
                event = json.loads(line)
                uid = event["object"]["metadata"]["uid"]
                if event["type"] == "DELETED":
                    del found[uid]
                else:
                    found[uid] = event["object"]
                yield list(found.values())

    def _call(self, method: str, path: str, query: Query, body: Manifest | None = None, media: str = _JSON) -> Made:
        with self._answer(method, path, query, body=body, media=media) as response:
            warnings = [text.split('"', 1)[1].rstrip('"') for text in response.headers.get_all("Warning", [])]
            return Made(json.loads(response.read()), [warning for warning in warnings if warning != UNFOUNDED])

    @contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        query: Query,
        *,
        body: Manifest | None = None,
        media: str = _JSON,
        timeout: float = _SECONDS,
    ) -> Iterator[HTTPResponse]:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": media, "Accept": _JSON}
        with closing(HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=self._tls)) as connection:
            connection.request(method, f"{path}?{urlencode(query)}", None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            if response.status >= 300:
                raise ApiError(response.status, f"{method} {path}: {_message(response.read().decode())}")
            yield response

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.ca)


def _message(answer: str) -> str:
    try:
        message: str = json.loads(answer)["message"]
    except ValueError:
        return answer
    return message
