"""Names of topics and groups (protocol.md 9)."""

import re

from bridge.emulator.errors import ServiceError

_TOPIC = re.compile(r"(?!CID|GID)[A-Za-z0-9_-]{3,64}")
_GROUP = re.compile(r"(?=.{2,64}$)(?:GID[_-]|CID)[A-Za-z0-9_-]*")


def check_topic(topic: str) -> None:
    """Raise `TopicNotExist` for a name that no topic can have."""
    if not _TOPIC.fullmatch(topic):
        raise ServiceError(
            "TopicNotExist",
            "The topic you provided does not exist: a name has 3 to 64 letters, digits, - and _, "
            "and doesn't begin with CID or GID.",
        )


def check_group(group: str) -> None:
    """Raise `InvalidArgument` for a name that no group can have."""
    if not _GROUP.fullmatch(group):
        raise ServiceError(
            "InvalidArgument",
            f"The consumer {group!r} is no group id: it begins with GID_, GID- or CID, "
            "and has 2 to 64 letters, digits, - and _.",
        )
