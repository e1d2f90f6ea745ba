"""What each official SDK sends, byte for byte, from the tables of protocol.md 1.4, 2.1, 3.1 and 4.1."""

import base64
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate

from emulator.raw_http import VERSION, sign

BODY = "a<b>&\r\n\t中\"'"
"""The body of protocol.md 4.1."""

_BOM = "\ufeff"
_SLASH = 'xmlns="http://mq.aliyuncs.com/doc/v1/"'
_PLAIN = 'xmlns="http://mq.aliyuncs.com/doc/v1"'
_PUBLISH = "<MessageBody>{body}</MessageBody><MessageTag>TagB *~</MessageTag><Properties>{properties}</Properties>"


@dataclass(frozen=True, kw_only=True)
class Sdk:
    """How one SDK writes its requests."""

    name: str
    get_type: str = ""
    """Content-Type of a GET, empty for none."""
    get_type_signed: str | None = None
    """What is signed in its stead."""
    write_type: str
    md5_on: Sequence[str] = ()
    """The methods that carry a Content-MD5."""
    header_names: Sequence[str] = ("Host", "Date", "x-mq-version", "Authorization", "Content-Length", "Content-Type")
    separator: str = ": "
    more_headers: Sequence[str] = ()
    write_headers: Sequence[str] = ()
    get_body: bytes = b""
    consume: str
    """The query of a poll with everything, tags `TagA||TagB *~`."""
    half: str
    ack_document: str
    publish_document: str
    received: str = BODY
    """What an XML parser makes of the body it sends."""

    def consume_request(self, query: str | None = None) -> bytes:
        """A poll; `query` replaces the one of the table."""
        return self._request("GET", query or self.consume, self.get_body)

    def ack_request(self, handles: Sequence[str]) -> bytes:
        """An ack of two handles."""
        one, other = handles
        return self._request(
            "DELETE", "consumer=GID_a&ns=MQ_INST_1", self.ack_document.format(one, other).encode(), self.write_headers
        )

    def publish_request(self) -> bytes:
        """A publish of `BODY`, tag `TagB *~`, key `k`, and a property `a`."""
        return self._request("POST", "ns=MQ_INST_1", self.publish_document.encode(), self.write_headers)

    def _request(self, method: str, query: str, body: bytes, more: Sequence[str] = ()) -> bytes:
        target = f"/topics/topicA/messages?{query}"
        date = formatdate(time.time(), usegmt=True)
        content_type = self.get_type if method == "GET" else self.write_type
        signed_type = self.get_type_signed if method == "GET" and self.get_type_signed else content_type
        # Base64 of the digest's hexadecimal text, as Go and Node send it (protocol.md 1.3).
        digest = hashlib.md5(body, usedforsecurity=False).hexdigest().encode()
        content_md5 = base64.b64encode(digest).decode() if method in self.md5_on else ""
        authorization = sign(method, target, date=date, content_type=signed_type, content_md5=content_md5)
        host, date_name, version, authorization_name, length, type_name = self.header_names
        fields = [
            (host, "127.0.0.1"),
            (date_name, date),
            (version, VERSION),
            (authorization_name, authorization),
            (length, str(len(body))),
            *([(type_name, content_type)] if content_type else []),
            *([("Content-Md5", content_md5)] if content_md5 else []),
        ]
        lines = [f"{name}{self.separator}{value}" for name, value in fields]
        return "\r\n".join([f"{method} {target} HTTP/1.1", *lines, *self.more_headers, *more, "", ""]).encode() + body


def _ack(before: str, opening: str, handle: str = "{}", space: str = "") -> str:
    handles = f"{space}<ReceiptHandle>{handle}</ReceiptHandle>" * 2
    return f"{before}<ReceiptHandles{opening}>{handles}{space[:1]}</ReceiptHandles>"


def _publish(before: str, opening: str, body: str, properties: str = "KEYS:k|a:b|") -> str:
    return f"{before}<Message{opening}>{_PUBLISH.format(body=body, properties=properties)}</Message>"


_LOWER = ("host", "date", "x-mq-version", "authorization", "content-length", "content-type")

PYTHON = Sdk(
    name="python",
    write_type="text/xml;charset=UTF-8",
    header_names=("host", "date", "x-mq-version", "Authorization", "Content-Length", "content-type"),
    more_headers=("Accept-Encoding: identity", "connection: Keep-Alive", "user-agent: mq-python-sdk/1.0.3(3.11.7)"),
    consume="consumer=GID_a&numOfMessages=3&ns=MQ_INST_1&waitseconds=1&tag=TagA%7C%7CTagB%20%2A~",
    half="consumer=GID_a&numOfMessages=3&ns=MQ_INST_1&waitseconds=1&trans=pop",
    ack_document=_ack('<?xml version="1.0" encoding="utf-8"?>', f" {_SLASH}"),
    # The only one to send the properties before the tag.
    publish_document=f'<?xml version="1.0" encoding="utf-8"?><Message {_SLASH}>'
    "<MessageBody>a&lt;b&gt;&amp;\r\n\t中&quot;'</MessageBody><Properties>KEYS:k|a:b|</Properties>"
    "<MessageTag>TagB *~</MessageTag></Message>",
    received=BODY.replace("\r\n", "\n"),
)
GO = Sdk(
    name="go",
    get_type="text/xml;charset=utf-8",
    write_type="text/xml;charset=utf-8",
    md5_on=("GET", "POST", "DELETE"),
    header_names=("Host", "Date", "X-Mq-Version", "Authorization", "Content-Length", "Content-Type"),
    more_headers=("User-Agent: mq-go-sdk/1.0.3(fasthttp)",),
    consume="consumer=GID_a&ns=MQ_INST_1&numOfMessages=3&waitseconds=1&tag=TagA%7C%7CTagB+%2A~",
    half="consumer=GID_a&ns=MQ_INST_1&numOfMessages=3&trans=pop&waitseconds=1",
    ack_document=_ack("", ""),
    publish_document=_publish("", "", "a&lt;b&gt;&amp;&#xD;&#xA;&#x9;中&#34;&#39;"),
)
JAVA = Sdk(
    name="java",
    get_type="text/xml;charset=UTF-8",
    write_type="text/xml;charset=UTF-8",
    header_names=("Host", "date", "x-mq-version", "authorization", "Content-Length", "content-type"),
    more_headers=("Connection: Keep-Alive", "User-Agent: mq-java-sdk/1.0.3.2(17.0.1)"),
    write_headers=("Expect: 100-continue",),
    consume="numOfMessages=3&consumer=GID_a&ns=MQ_INST_1&tag=TagA%7C%7CTagB+*%7E&waitseconds=1",
    half="numOfMessages=3&consumer=GID_a&ns=MQ_INST_1&waitseconds=1&trans=pop",
    ack_document=_ack('<?xml version="1.0" encoding="UTF-8" standalone="no"?>', f" {_PLAIN}"),
    publish_document=_publish(
        '<?xml version="1.0" encoding="UTF-8" standalone="no"?>', f" {_PLAIN}", "a&lt;b&gt;&amp;&#13;\n\t中\"'"
    ),
)
NODE = Sdk(
    name="node",
    get_type="text/xml;charset=utf-8",
    write_type="text/xml;charset=utf-8",
    md5_on=("POST", "DELETE"),
    header_names=_LOWER,
    more_headers=("user-agent: mq-nodejs-sdk/1.0.4",),
    consume="consumer=GID_a&ns=MQ_INST_1&tag=TagA%7C%7CTagB%20*~&numOfMessages=3&waitseconds=1",
    half="consumer=GID_a&ns=MQ_INST_1&trans=pop&numOfMessages=3&waitseconds=1",
    ack_document=_ack('<?xml version="1.0" encoding="UTF-8"?>', f" {_SLASH}", "<![CDATA[{}]]>"),
    publish_document=_publish('<?xml version="1.0" encoding="UTF-8"?>', f" {_SLASH}", f"<![CDATA[{BODY}]]>", "KEYS:k|a:b"),
    received=BODY.replace("\r\n", "\n"),
)
PHP = Sdk(
    name="php",
    get_type="text/xml",
    write_type="text/xml",
    more_headers=("User-Agent: mq-php-sdk/1.0.4(GuzzleHttp/7)",),
    consume="numOfMessages=3&consumer=GID_a&ns=MQ_INST_1&waitseconds=1&tag=TagA%7C%7CTagB+%2A%7E",
    half="numOfMessages=3&consumer=GID_a&ns=MQ_INST_1&waitseconds=1&trans=pop",
    ack_document=_ack('<?xml version="1.0" encoding="UTF-8"?>\n', f" {_SLASH}"),
    publish_document=_publish(
        '<?xml version="1.0" encoding="UTF-8"?>\n', f" {_SLASH}", "a&lt;b&gt;&amp;&#13;\n\t中&quot;'", "KEYS:k|a:b"
    ),
)
CPP = Sdk(
    name="cpp",
    get_type="text/xml;charset=UTF-8",
    write_type="text/xml;charset=UTF-8",
    separator=":",
    more_headers=("Accept: */*", "User-Agent:mq-cpp-sdk/1.0.3(curl)"),
    get_body=b"\x00\xfe" + b"DELETE\n\ntext/xml;charset=UTF-8\nSat, 21 Nov" * 4,  # freed memory, 182 bytes or so
    consume="consumer=GID_a&numOfMessages=3&ns=MQ_INST_1&waitseconds=1&tag=TagA%7C%7CTagB+%2A~",
    half="consumer=GID_a&numOfMessages=3&ns=MQ_INST_1&waitseconds=1&trans=pop",
    ack_document=_ack('<?xml version="1.0"?>\n', f" {_PLAIN}", space="\n\t"),
    publish_document=_publish('<?xml version="1.0"?>\n', f" {_PLAIN}", "a&lt;b&gt;&amp;\r\n\t中\"'"),
    received=BODY.replace("\r\n", "\n"),
)
CSHARP = Sdk(
    name="csharp",
    get_type="text/xml",
    write_type="text/xml",
    more_headers=("Connection: Keep-Alive", "User-Agent: mq-csharp-sdk/1.0.3(.NET/3.1)"),
    get_body=b"a",
    consume="consumer=GID_a&ns=MQ_INST_1&numOfMessages=3&tag=TagA%7C%7CTagB%20%2A~&waitseconds=1",
    half="consumer=GID_a&ns=MQ_INST_1&numOfMessages=3&trans=pop&waitseconds=1",
    ack_document=_ack(f'{_BOM}<?xml version="1.0" encoding="utf-8"?>', f" {_PLAIN}"),
    publish_document=_publish(f'{_BOM}<?xml version="1.0" encoding="utf-8"?>', f" {_PLAIN}", "a&lt;b&gt;&amp;\r\n\t中\"'"),
    received=BODY.replace("\r\n", "\n"),
)
CSHARP_ASYNC = Sdk(
    name="csharp-async",
    get_type_signed="text/xml",
    write_type="text/xml",
    consume=CSHARP.consume,
    half=CSHARP.half,
    ack_document=CSHARP.ack_document,
    publish_document=CSHARP.publish_document,
    received=CSHARP.received,
)

SDKS = (PYTHON, GO, JAVA, NODE, PHP, CPP, CSHARP, CSHARP_ASYNC)
