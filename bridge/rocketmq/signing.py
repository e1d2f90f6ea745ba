"""Signatures of requests: pure functions, the date is an argument (protocol.md 1.2)."""

import hmac
from base64 import b64encode

VERSION = "2015-06-06"
"""The API version, sent as `x-mq-version` with every request and part of every signature."""


def string_to_sign(*, method: str, content_type: str, date: str, target: str, content_md5: str = "") -> str:
    """What is signed. `target` is path and query exactly as on the request line, `date` the value of the Date header.

    Every header whose lower-case name starts with x-mq-, sorted, name:value: there is one, the version. The body and the
    security token are not covered (protocol.md 1.2, 1.5), and no newline ends it.
    """
    return f"{method}\n{content_md5}\n{content_type}\n{date}\nx-mq-version:{VERSION}\n{target}"


def signature(secret: str, text: str) -> str:
    """base64(HMAC-SHA1(secret, text)), both in UTF-8."""
    return b64encode(hmac.digest(secret.encode(), text.encode(), "sha1")).decode()


def authorization(access_key_id: str, secret: str, text: str) -> str:
    """The value of the Authorization header for `text`, a string to sign."""
    return f"MQ {access_key_id}:{signature(secret, text)}"
