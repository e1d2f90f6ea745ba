"""Who may call: the signature, the date and the digest of a request (protocol.md 1.2 to 1.5)."""

import base64
import functools
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from bridge.emulator.errors import ServiceError

MAX_SKEW = 15 * 60 * 1000
"""How far a request's date may lie from the server's clock, in milliseconds (protocol.md 1.5)."""

VERSION = "2015-06-06"

Headers = Mapping[bytes, bytes]
"""A request's headers as they were sent, by lower-case name."""


def authorize(method: str, target: bytes, headers: Headers, *, now: int, access_key_id: str, access_key_secret: str) -> None:
    """Raise a `ServiceError` unless the owner of the key signed this request, and not long ago.

    `target` is the path and query exactly as on the request line; `now` is in milliseconds.
    """
    authorization = headers.get(b"authorization")
    if authorization is None:
        raise ServiceError("MissingAuthorizationHeader")
    date = headers.get(b"date")
    if date is None:
        raise ServiceError("MissingDateHeader")
    if abs(now - _instant(date)) > MAX_SKEW:
        raise ServiceError("TimeExpired")
    if headers.get(b"x-mq-version") != VERSION.encode():
        raise ServiceError("InvalidArgument", f"The header x-mq-version is not {VERSION}.")
    scheme, _, credentials = authorization.partition(b" ")
    key_id, colon, signature = credentials.partition(b":")
    if scheme != b"MQ" or not colon:
        raise ServiceError("InvalidAuthorizationHeader")
    if key_id != access_key_id.encode():
        raise ServiceError("InvalidAccessKeyId")
    if not _is_signed(signature, access_key_secret, method, target, headers):
        raise ServiceError("SignatureDoesNotMatch")


def check_digest(headers: Headers, body: bytes) -> None:
    """Raise `InvalidDigest` when there is a Content-MD5 and the body has another.

    Go and Node encode the digest's hexadecimal text instead of its bytes; both are taken (protocol.md 1.3).
    """
    sent = headers.get(b"content-md5")
    if not sent:
        return
    digest = hashlib.md5(body, usedforsecurity=False)
    if sent not in {base64.b64encode(digest.digest()), base64.b64encode(digest.hexdigest().encode())}:
        raise ServiceError("InvalidDigest")


def _is_signed(signature: bytes, secret: str, method: str, target: bytes, headers: Headers) -> bool:
    content_type = headers.get(b"content-type", b"")
    if hmac.compare_digest(signature, _signature(secret, method, target, headers, content_type)):
        return True
    # The asynchronous calls of C# sign this on a GET, and don't send it (protocol.md 1.4).
    unsent = method == "GET" and b"content-type" not in headers
    return unsent and hmac.compare_digest(signature, _signature(secret, method, target, headers, b"text/xml"))


def _signature(secret: str, method: str, target: bytes, headers: Headers, content_type: bytes) -> bytes:
    service_headers = sorted((name, value) for name, value in headers.items() if name.startswith(b"x-mq-"))
    lines = [
        method.encode(),
        headers.get(b"content-md5", b""),
        content_type,
        headers.get(b"date", b""),
        *[name + b":" + value for name, value in service_headers],
        target,
    ]
    return base64.b64encode(hmac.digest(secret.encode(), b"\n".join(lines), "sha1"))


@functools.lru_cache(maxsize=64)
def _instant(date: bytes) -> int:
    try:
        instant = parsedate_to_datetime(date.decode("ascii"))
    except ValueError as error:
        raise ServiceError("InvalidDateHeader") from error
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return int(datetime.timestamp(instant)) * 1000
