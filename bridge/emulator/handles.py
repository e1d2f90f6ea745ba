"""Receipt handles: `<MessageId>-<suffix>`, another one for every delivery (protocol.md 2.3).

The suffix holds the number of the delivery and a random number that the message has for its group. So whether a
handle was ever issued, and for which delivery, is read from the handle, and no table of dead handles is kept.
"""

import base64
import binascii
from typing import NamedTuple


class ReceiptHandle(NamedTuple):
    """What a handle says."""

    message_id: str
    nonce: int
    """32 random bits that belong to one message in one group."""
    delivery: int
    """Counts from 1; 0 is the handle that publishing a half message returns."""

    def __str__(self) -> str:
        """The handle as it stands in XML."""
        return f"{self.message_id}-{base64.b64encode(b'%08x%d' % (self.nonce, self.delivery)).decode()}"


def parse_handle(text: str) -> ReceiptHandle | None:
    """Read a handle; None when it can't have been issued by this emulator."""
    message_id, _, suffix = text.partition("-")
    try:
        content = base64.b64decode(suffix, validate=True)
        handle = ReceiptHandle(message_id, int(content[:8], 16), int(content[8:]))
    except (binascii.Error, ValueError):
        return None
    # int() also reads " 1" and "1_0", which were never written.
    return handle if str(handle) == text else None
