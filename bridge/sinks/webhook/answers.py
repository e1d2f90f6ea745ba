"""What a receiver's answer means (design.md 5, Down or poison?)."""

from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

from bridge.environment import without_credentials
from bridge.errors import SinkDownError
from bridge.sinks import CONFIRMED, Again, Confirmed, Refused
from bridge.sinks.http import Answer

_CONDEMN_THE_EVENT: Final = {400, 413, 415, 422}
_ENDPOINTS_TROUBLE: Final = {
    401: "check who the bridge is to it (AUTH_…)",
    403: "check what the bridge may do there (AUTH_…)",
    404: "check URL",
    405: "check URL: what is there takes no POST",
    407: "check HTTPS_PROXY and its user",
    410: "the receiver is gone for good: check URL",
}
_TLS_TROUBLE: Final = (
    b"No required SSL certificate was sent",  # nginx
    b"The SSL certificate error",  # nginx
    b"The plain HTTP request was sent to HTTPS port",  # nginx
    b"Client sent an HTTP request to an HTTPS server",  # Go
    b"speaking plain HTTP to an SSL-enabled server",  # Apache
)
"""How web servers say, with status 400, what has nothing to do with an event."""


def outcome_of(answer: Answer, *, where: str, now: float, hidden: Iterable[str] = ()) -> Confirmed | Refused | Again:
    """What became of what was posted to `where`, answered at `now`, in seconds since the epoch.

    Raises SinkDownError for an answer that is not about what was posted, but about the endpoint.
    """
    if answer.is_success:
        return CONFIRMED
    said = answer.said(hidden)
    if answer.status == HTTPStatus.BAD_REQUEST and any(text in answer.body for text in _TLS_TROUBLE):
        raise SinkDownError(f"{where} answers {said}; check URL and CLIENT_CERT_FILE")
    if answer.status in _CONDEMN_THE_EVENT:
        return Refused(f"answered {said}")
    if hint := _ENDPOINTS_TROUBLE.get(answer.status):
        raise SinkDownError(f"{where} answers {said}; {hint}")
    if 300 <= answer.status < 400:  # noqa: PLR2004 - 3xx
        target = answer.headers.get("location")
        raise SinkDownError(
            f"{where} answers {answer.status}, a redirect{f' to {without_credentials(target)!r}' if target else ''}; "
            "redirects are not followed: set URL to where it leads"
        )
    return Again(f"answered {said}", retry_after(answer, now))


def retry_after(answer: Answer, now: float) -> float | None:
    """How many seconds the receiver asks to be left alone; None where it doesn't say (RFC 9110, 10.2.3)."""
    value = answer.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdecimal():
        return float(value[:12])
    at = _instant(value)
    if at is None:
        return None
    # The receiver means its own clock; without a Date it is taken to agree with ours.
    their_now = _instant(answer.headers.get("date", ""))
    return max(0.0, at - (now if their_now is None else their_now))


def _instant(date: str) -> float | None:
    """An HTTP date as seconds since the epoch; None for what is none."""
    try:
        instant: datetime = parsedate_to_datetime(date)
        # Without a zone it is UTC, as every date of HTTP (RFC 9110, 5.6.7), and not this machine's time.
        return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
