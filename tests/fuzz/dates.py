"""The Date header: whatever it holds gives an instant or none."""

import math

from bridge.delivery.lease import BrokerClock
from bridge.rocketmq.client import _instant

TOKENS = [b"Sun, 22 Nov 2026 19:22:54 GMT", b"Sunday, 22-Nov-26 ", b"Nov", b" +2400", b" -9999", b"9999", b"0001", b":", b"("]


def date(header: bytes) -> None:
    """A Date header, as aiohttp hands it over."""
    instant = _instant(header.decode("utf-8", "surrogateescape"))
    if instant is not None:
        assert math.isfinite(instant)
        clock = BrokerClock()
        clock.observe(instant, 1.0, 2.0)
        assert math.isfinite(clock.local(instant, otherwise=0.0))
