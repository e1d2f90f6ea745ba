"""The properties string: `key:value|key:value|` (protocol.md 5.1)."""

import re
from collections.abc import Mapping

from bridge.emulator.errors import ServiceError

MAX_PROPERTIES_BYTES = 16 * 1024
"""The longest properties string, in bytes of UTF-8 (protocol.md 9)."""

_FORBIDDEN = re.compile("[\"'<>&:|]")


def check_properties(properties: Mapping[str, str]) -> None:
    """Raise `InvalidArgument` for names and values that the string couldn't carry, and for too many bytes of them."""
    for name, value in properties.items():
        if not name or _FORBIDDEN.search(name) or _FORBIDDEN.search(value):
            raise ServiceError("InvalidArgument", f"The property {name!r} holds a character out of \"'<>&:| or no name.")
    if len(format_properties(properties).encode()) > MAX_PROPERTIES_BYTES:
        raise ServiceError("InvalidArgument", f"The properties are longer than {MAX_PROPERTIES_BYTES} bytes.")


def parse_properties(text: str) -> dict[str, str]:
    """Read what a producer sent, with or without the last `|`; what would be lost later is `InvalidArgument` now."""
    properties: dict[str, str] = {}
    for piece in text.removesuffix("|").split("|") if text else ():
        name, colon, value = piece.partition(":")
        if not colon:
            raise ServiceError("InvalidArgument", f"The property {piece!r} is not of the form key:value.")
        if name in properties:
            raise ServiceError("InvalidArgument", f"The property {name!r} is given twice.")
        properties[name] = value
    return properties


def format_properties(properties: Mapping[str, str]) -> str:
    """Write the string; it always ends with `|`, as the C++ SDK drops the last pair otherwise (protocol.md 5.2)."""
    return "".join([f"{name}:{value}|" for name, value in properties.items()])
