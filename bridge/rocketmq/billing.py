"""What the service bills for a message that it delivers."""

from bridge.rocketmq.damage import Damaged
from bridge.rocketmq.message import START_DELIVER_TIME, TRANSACTION_CHECK, Message

UNIT_BYTES = 4096
SPECIAL_FACTOR = 5
"""For ordered, transactional and scheduled messages (protocol.md 9)."""

_BYTES_PER_CHARACTER = 4  # of UTF-8, at most


def units(message: Message | Damaged, *, ordered: bool) -> int:
    """The units of one delivery: one for each 4 KB begun, times five where the message is of a dearer kind (protocol.md 9).

    An estimate: bodies are counted, as nothing says whether properties are; and a message counts as ordered when it is
    consumed in order, as scheduled or transactional when its properties say so. A damaged one counts with its XML.
    """
    if isinstance(message, Damaged):
        size, special = len(message.raw), ordered
    else:
        body, properties = message.body, message.properties
        size = len(body)
        if size > UNIT_BYTES // _BYTES_PER_CHARACTER and not body.isascii():
            size = len(body.encode(errors="surrogatepass"))
        special = ordered or START_DELIVER_TIME in properties or TRANSACTION_CHECK in properties
    return max(1, -(-size // UNIT_BYTES)) * (SPECIAL_FACTOR if special else 1)
