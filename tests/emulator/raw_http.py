"""HTTP as bytes, and a signer of its own: what checks the emulator shares nothing with it."""

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import formatdate
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

NAMESPACE = "http://mq.aliyuncs.com/doc/v1"
"""Without a slash at its end (protocol.md 2.6)."""

VERSION = "2015-06-06"


def sign(method: str, target: str, *, date: str, content_type: str = "", content_md5: str = "", key: str = "AKID") -> str:
    """The Authorization header of protocol.md 1.2, for the secret `SECRET`."""
    text = "\n".join([method, content_md5, content_type, date, f"x-mq-version:{VERSION}", target])
    digest = hmac.new(b"SECRET", text.encode(), hashlib.sha1).digest()
    return f"MQ {key}:{base64.b64encode(digest).decode()}"


def parse(document: bytes) -> ET.Element:
    """Read XML that the emulator wrote, with a parser that it doesn't use."""
    return ET.fromstring(document)  # noqa: S314 - of our own making


@dataclass(frozen=True)
class Response:
    """An answer, its header lines as they came."""

    status: int
    lines: list[str]
    body: bytes

    def header(self, name: str) -> str | None:
        """A header's value, its name in this very spelling."""
        for line in self.lines:
            found, _, value = line.partition(": ")
            if found == name:
                return value
        return None

    @property
    def root(self) -> ET.Element:
        return parse(self.body)

    @property
    def code(self) -> str | None:
        """The code of an `<Error>`, or of the first of `<Errors>`."""
        root = self.root
        return root.findtext(f".//{{{NAMESPACE}}}Code") or root.findtext(f".//{{{NAMESPACE}}}ErrorCode")

    @property
    def items(self) -> list[dict[str, str]]:
        """The children of the answer, each with the texts of its own: messages, or the errors of an ack."""
        return [{field.tag.partition("}")[2]: field.text or "" for field in item} for item in self.root]

    def texts(self, name: str) -> list[str]:
        return [item[name] for item in self.items]


class Connection:
    """One connection, kept alive."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self.reader = reader
        self.writer = writer
        self.host = host

    async def send(self, data: bytes) -> Response:
        """Send a whole request, and read its answer."""
        self.writer.write(data)
        return await self.receive()

    async def receive(self) -> Response:
        """Read one answer. Raises `asyncio.IncompleteReadError` when the connection ends before."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status_line, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        response = Response(int(status_line.split()[1]), lines, b"")
        if response.status == 100:  # the answer to an Expect, before the answer
            return await self.receive()
        length = int(response.header("Content-Length") or 0)
        return Response(response.status, lines, await self.reader.readexactly(length))

    async def call(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        content_type: str = "text/xml",
        date: str | None = None,
        key: str = "AKID",
        headers: Iterable[str] = (),
    ) -> Response:
        """Send a request that is signed as it should be."""
        return await self.send(
            signed(method, target, body, content_type=content_type, date=date, key=key, host=self.host, headers=headers)
        )

    async def publish(self, body: str, *, tag: str = "", properties: str = "", topic: str = "topicA") -> Response:
        """Publish to the instance MQ_INST_1."""
        message = ET.Element("Message")
        ET.SubElement(message, "MessageBody").text = body
        if tag:
            ET.SubElement(message, "MessageTag").text = tag
        if properties:
            ET.SubElement(message, "Properties").text = properties
        return await self.call("POST", f"/topics/{topic}/messages?ns=MQ_INST_1", ET.tostring(message))

    async def consume(self, query: str = "", *, count: int = 16, group: str = "GID_a", topic: str = "topicA") -> Response:
        """Poll; `query` is what else is asked for, as `&waitseconds=5`."""
        target = f"/topics/{topic}/messages?consumer={group}&ns=MQ_INST_1&numOfMessages={count}{query}"
        return await self.call("GET", target)

    async def ack(self, handles: Iterable[str], query: str = "", *, group: str = "GID_a", topic: str = "topicA") -> Response:
        """Ack; `query` is what else is asked for, as `&trans=commit`."""
        body = "".join(f"<ReceiptHandle>{handle}</ReceiptHandle>" for handle in handles)
        target = f"/topics/{topic}/messages?consumer={group}&ns=MQ_INST_1{query}"
        return await self.call("DELETE", target, f"<ReceiptHandles>{body}</ReceiptHandles>".encode())


def signed(
    method: str,
    target: str,
    body: bytes = b"",
    *,
    content_type: str = "text/xml",
    date: str | None = None,
    key: str = "AKID",
    host: str = "localhost",
    headers: Iterable[str] = (),
) -> bytes:
    """A request that is signed as it should be."""
    date = date or formatdate(time.time(), usegmt=True)
    lines = [
        f"{method} {target} HTTP/1.1",
        f"Host: {host}",
        f"Date: {date}",
        f"x-mq-version: {VERSION}",
        f"Authorization: {sign(method, target, date=date, content_type=content_type, key=key)}",
        f"Content-Length: {len(body)}",
        *([f"Content-Type: {content_type}"] if content_type else []),
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Connection]:
    """A connection to the emulator at `url`."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**26)
    try:
        yield Connection(reader, writer, parts.netloc)
    finally:
        writer.close()
