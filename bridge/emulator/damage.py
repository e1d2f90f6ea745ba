"""Messages that arrive damaged, as `Faults` asks for it."""

import dataclasses
import hashlib
import random
import re

from bridge.emulator.faults import Faults, hits
from bridge.emulator.wire import write_message
from bridge.rocketmq.message import Message


def write_damaged(message: Message, faults: Faults, rng: random.Random) -> str:
    """One `<Message>`, with the damage that chance has for it."""
    if hits(faults.illegal_character, rng):
        body = message.body + "\x01"
        message = dataclasses.replace(message, body=body, body_md5=_md5(body))
    if hits(faults.wrong_md5, rng):
        message = dataclasses.replace(message, body_md5=_md5(message.body + "?"))
    element = write_message(message)
    if hits(faults.missing_id, rng):
        element = _without(element, "MessageId")
    if hits(faults.missing_body, rng):
        element = _without(element, "MessageBody")
    elif hits(faults.broken_xml, rng):
        element = element.replace("</MessageBody>", "< </MessageBody>")
    return element


def _without(element: str, name: str) -> str:
    return re.sub(f"<{name}>.*?</{name}>\n", "", element, flags=re.DOTALL)


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest().upper()
