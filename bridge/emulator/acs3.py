"""Who may call the management API: the signature ACS3-HMAC-SHA256 (protocol.md 8.1)."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote

from bridge.emulator.authorization import MAX_SKEW
from bridge.emulator.errors import ManagementError

_AUTHORIZATION = re.compile(r"ACS3-HMAC-SHA256 Credential=([^,]+), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})")

_COVERED = frozenset({"host", "x-acs-action", "x-acs-content-sha256", "x-acs-date", "x-acs-signature-nonce", "x-acs-version"})
"""What a signature that didn't cover it would be worth nothing without."""


def authorize(
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: int,
    access_key_id: str,
    access_key_secret: str,
) -> None:
    """Raise a `ManagementError` unless the owner of the key signed this request, and not long ago.

    `target` is the path and query as on the request line, `headers` are by lower-case name, `now` is in milliseconds.
    """
    key_id, signed, signature = _read_authorization(headers.get("authorization"))
    must_be_signed = _COVERED | {name for name in headers if name.startswith("x-acs-")}
    if not must_be_signed <= signed <= headers.keys():
        raise _incomplete(f"SignedHeaders should name {', '.join(sorted(must_be_signed))}, and nothing that isn't sent.")
    if abs(now - _instant(headers["x-acs-date"])) > MAX_SKEW:
        raise ManagementError("InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")
    if key_id != access_key_id:
        raise ManagementError("InvalidAccessKeyId.NotFound", "Specified access key is not found.", status=404)
    request = canonical_request(method, target, {name: headers[name] for name in signed}, headers["x-acs-content-sha256"])
    whole = headers["x-acs-content-sha256"] == hashlib.sha256(body).hexdigest()
    if not whole or not hmac.compare_digest(signature, sign(request, access_key_secret)):
        raise ManagementError("SignatureDoesNotMatch", "Specified signature is not matched with our calculation.")


def canonical_request(method: str, target: str, signed: Mapping[str, str], body_sha256: str) -> str:
    """What is signed; `signed` are the headers that are.

    The query is decoded and encoded anew: what stands on the request line is encoded as the HTTP library likes it.
    """
    path, _, query = target.partition("?")
    pairs = sorted(parse_qsl(query, keep_blank_values=True))
    names = sorted(signed)
    return "\n".join(
        [
            method,
            path,
            "&".join([f"{_encode(name)}={_encode(value)}" for name, value in pairs]),
            "".join([f"{name}:{signed[name].strip()}\n" for name in names]),
            ";".join(names),
            body_sha256,
        ]
    )


def sign(canonical: str, secret: str) -> str:
    """The signature of a canonical request."""
    text = f"ACS3-HMAC-SHA256\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    return hmac.digest(secret.encode(), text.encode(), "sha256").hex()


def _encode(text: str) -> str:
    return quote(text, safe="", errors="surrogateescape")


def _read_authorization(text: str | None) -> tuple[str, set[str], str]:
    match = _AUTHORIZATION.fullmatch(text or "")
    if match is None:
        raise _incomplete(
            "Authorization should be ACS3-HMAC-SHA256 with Credential, SignedHeaders and Signature; the older signatures of "
            "RPC requests, which SDKs make with signature_algorithm v2, are not taken here."
        )
    return match[1], set(match[2].split(";")), match[3]


def _instant(text: str) -> int:
    try:
        return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:
        raise ManagementError("InvalidTimeStamp.Format", "Specified time stamp or date value is not well formatted.") from None


def _incomplete(message: str) -> ManagementError:
    return ManagementError("IncompleteSignature", message)
