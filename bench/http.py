"""The server's side of HTTP/1.1, as little of it as well-behaved clients need."""

import asyncio
import re
from abc import ABC, abstractmethod
from typing import cast

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_EXPECTS = re.compile(rb"\r\nexpect: *100-continue", re.IGNORECASE)


class Connection(asyncio.Protocol, ABC):
    """One connection: requests come one after the other, and each is answered before the next."""

    def __init__(self) -> None:
        self._received = b""
        self._continued = False
        self._transport: asyncio.Transport | None = None
        self.is_closed = False

    @abstractmethod
    def request(self, method: bytes, target: bytes, content: bytes) -> None:
        """A whole request is there; `answer` it now or later."""

    def answer(self, data: bytes) -> None:
        """Write a whole answer."""
        assert self._transport
        self._transport.write(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def connection_lost(self, _error: Exception | None) -> None:
        """See asyncio.Protocol."""
        self.is_closed = True

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._received = data = self._received + data if self._received else data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _CONTENT_LENGTH.search(data, 0, end + 2)
        whole = end + 4 + (int(length[1]) if length else 0)
        if len(data) < whole:
            if not self._continued and _EXPECTS.search(data, 0, end + 2):  # protocol.md 10, point 10
                self._continued = True
                self.answer(b"HTTP/1.1 100 Continue\r\n\r\n")
            return
        self._received, self._continued = data[whole:], False
        method, target, _ = data.split(b" ", 2)
        self.request(method, target, data[end + 4 : whole])
