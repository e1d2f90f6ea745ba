"""Standard Webhooks signatures, by the project's own library."""

import re
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Sequence

from bridge.errors import FixSettingsError


def keys_of(secrets: str) -> tuple[bytes, ...]:
    """The keys of one or more secrets, `whsec_…` in Base64, parted by spaces or commas; the prefix may be left out.

    Raises ValueError, which repeats nothing of them.
    """
    keys = []
    for number, secret in enumerate(re.split(r"[\s,]+", secrets.strip(" ,\t\r\n")), 1):
        text = secret.removeprefix("whsec_").rstrip("=")
        try:
            key = b64decode(text + "=" * (-len(text) % 4), validate=True)
        except (Error, ValueError):  # ValueError: characters beyond ASCII
            raise ValueError(f"secret {number} should be whsec_ and then Base64") from None
        if not key:
            raise ValueError(f"secret {number} should be whsec_ and then Base64, and is empty")
        keys.append(key)
    return tuple(keys)


class Signer:
    """Signs with every key, so that a receiver which knows any of them can verify."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """Raises FixSettingsError when the library is not installed."""
        try:
            from standardwebhooks.webhooks import hmac_data  # noqa: PLC0415 - an extra: only signing needs it
        except ImportError:
            raise FixSettingsError(
                "SIGNING_SECRET needs the package standardwebhooks: pip install 'rocketmq-bridge[webhook]'"
            ) from None
        self._keys = keys
        self._hmac = hmac_data  # and not its Webhook.sign, which takes text alone

    def headers(self, message_id: str, body: bytes, now: float) -> dict[str, str]:
        """The headers that sign one attempt, made at `now`, in seconds since the epoch."""
        timestamp = str(int(now))
        signed = f"{message_id}.{timestamp}.".encode() + body
        signatures = [f"v1,{b64encode(self._hmac(key, signed)).decode()}" for key in self._keys]
        return {"webhook-timestamp": timestamp, "webhook-signature": " ".join(signatures)}
