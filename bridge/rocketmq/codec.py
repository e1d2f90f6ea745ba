"""The wire protocol, sans-IO: values to requests, answers to values or to classed errors (protocol.md 2 to 5, 7).

Whatever bytes an answer holds, reading it gives a value or raises a `BridgeError`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from urllib.parse import quote

from lxml import etree

from bridge.errors import BridgeError, BrokenAnswerError, FixSettingsError, GiveUpError, ThrottledError, TryAgainError
from bridge.rocketmq import plain
from bridge.rocketmq.damage import Damaged, damaged, number, repair, restore, segments
from bridge.rocketmq.message import MAX_BATCH, MAX_BODY_BYTES, MAX_REQUEST_LINE, MAX_WAIT_SECONDS, Message

CONTENT_TYPE = "text/xml;charset=utf-8"
"""Of every request that has a body."""

_NAMESPACE = "http://mq.aliyuncs.com/doc/v1/"
_FORBIDDEN_IN_PROPERTIES = frozenset("\"'<>&:|")
_ILLEGAL_IN_XML = frozenset(map(chr, [*range(9), 0xB, 0xC, *range(0xE, 0x20), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, complete but for what needs a clock or a secret: Date and Authorization."""

    method: str
    target: str
    """Path and query as they stand on the request line, and in the signature."""
    body: bytes = b""
    content_type: str = ""
    """Empty where there is no body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """What is consumed, by whom: one topic, one group, perhaps some tags.

    Raises FixSettingsError when the longest
    request line would exceed 1,024 characters (protocol.md 2.1).
    """

    topic: str
    group: str
    instance: str | None = None
    tag: str | None = None
    ordered: bool = False

    def __post_init__(self) -> None:
        longest = len(f"GET {self.poll(MAX_BATCH, MAX_WAIT_SECONDS).target} HTTP/1.1")
        if longest > MAX_REQUEST_LINE:
            raise FixSettingsError(
                f"the request line would have {longest:,} characters, and the service takes {MAX_REQUEST_LINE:,}: "
                f"instance id, topic, group id and tags together must be {longest - MAX_REQUEST_LINE:,} characters shorter "
                "(each character other than letters, digits and -._~ counts three or more)"
            )

    def poll(self, max_messages: int, wait_seconds: int) -> Request:
        """Ask for 1 to 16 messages, waiting 0 to 30 seconds for the first (protocol.md 2.1)."""
        return _poll(self, max_messages, wait_seconds)

    def ack(self, receipt_handles: Iterable[str]) -> Request:
        """Acknowledge 1 to 16 deliveries by their receipt handles (protocol.md 3.1)."""
        handles = "".join([f"<ReceiptHandle>{_escaped(handle)}</ReceiptHandle>" for handle in receipt_handles])
        return Request(
            method="DELETE",
            target=_ack_target(self),
            body=_document("ReceiptHandles", handles),
            content_type=CONTENT_TYPE,
        )


@lru_cache(maxsize=64)  # a request is the same from poll to poll
def _poll(subscription: Subscription, max_messages: int, wait_seconds: int) -> Request:
    query = {"ns": subscription.instance, "consumer": subscription.group, "tag": subscription.tag}
    query["numOfMessages"] = str(max_messages)
    if wait_seconds:
        query["waitseconds"] = str(wait_seconds)
    if subscription.ordered:
        query["trans"] = "order"
    return Request(method="GET", target=_target(subscription.topic, query))


@lru_cache(maxsize=64)
def _ack_target(subscription: Subscription) -> str:
    return _target(subscription.topic, {"ns": subscription.instance, "consumer": subscription.group})


def publish(
    topic: str,
    *,
    body: str,
    instance: str | None = None,
    tag: str | None = None,
    properties: Mapping[str, str] = MappingProxyType({}),
) -> Request:
    """Publish one message (protocol.md 4.1).

    Raises GiveUpError for what the protocol can't carry: a body over 4 MB or empty, characters that XML has no place for, and
    quotation marks or any of < > & : | in properties (protocol.md 4.1, 5.1, 5.4).
    """
    if not body:
        raise GiveUpError("publishing a message: its body is empty, and the service wants at least one character")
    if len(body) > MAX_BODY_BYTES or len(body.encode(errors="surrogatepass")) > MAX_BODY_BYTES:
        raise GiveUpError(f"publishing a message: its body is larger than {MAX_BODY_BYTES:,} bytes of UTF-8")
    for name, value in properties.items():
        if not name or not value or not _FORBIDDEN_IN_PROPERTIES.isdisjoint(name + value):
            raise GiveUpError(f"publishing a message: property {name!r} is empty, or holds one of \" ' < > & : |")
    pairs = "".join(f"{name}:{value}|" for name, value in properties.items())
    fields = {"MessageBody": body, "MessageTag": tag, "Properties": pairs}
    for name, text in fields.items():
        if text and not _ILLEGAL_IN_XML.isdisjoint(text):
            raise GiveUpError(f"publishing a message: its {name} holds a character that XML can't carry; encode it as Base64")
    content = "".join(f"<{name}>{_escaped(text)}</{name}>" for name, text in fields.items() if text)
    return Request(
        method="POST",
        target=_target(topic, {"ns": instance}),
        body=_document("Message", content),
        content_type=CONTENT_TYPE,
    )


def _escaped(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("\r", "&#13;")  # which would be read as a line feed


def _target(topic: str, query: Mapping[str, str | None]) -> str:
    path = f"/topics/{quote(topic, safe='')}/messages"
    pairs = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items() if value)
    return f"{path}?{pairs}" if pairs else path


def _document(root: str, content: str) -> bytes:
    return f'<?xml version="1.0" encoding="utf-8"?><{root} xmlns="{_NAMESPACE}">{content}</{root}>'.encode()


# ---- answers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AckFailure:
    """One receipt handle that the service did not accept (protocol.md 3.2)."""

    receipt_handle: str
    code: str
    """`ReceiptHandleError`: not a valid handle. `MessageNotExist`: used after its lease, or a second time."""
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The service has taken a message."""

    message_id: str
    body_md5: str | None
    receipt_handle: str | None
    """Resolves a half message of a transaction (protocol.md 4.3); None for any other."""


def max_answer_bytes(max_messages: int) -> int:
    """The size in bytes that no legal answer to a poll for so many messages exceeds.

    A body is at most 4 MB, and at worst every byte of it is a quotation mark, written `&quot;`; 64 KB are ample for the rest of
    a message, whose properties are at most 16 KB (protocol.md 9).
    """
    return max_messages * (6 * MAX_BODY_BYTES + 65_536) + 65_536


def read_poll(status: int, body: bytes) -> tuple[Message | Damaged, ...]:
    """The messages of an answer to a poll; empty when there are none. One that can't be read is Damaged, and the others stand.

    Raises FixSettingsError, ThrottledError, TryAgainError or BrokenAnswerError, as protocol.md 7 classes it.
    """
    if status == 200 and body:  # noqa: PLR2004 - the status of protocol.md 2.3
        return _messages(body)
    if status == 200:  # noqa: PLR2004
        raise BrokenAnswerError("polling: the answer is 200 with an empty body; is the endpoint the service's HTTP one?")
    error = _error(status, body, "polling")
    if error is None:  # MessageNotExist: a normal answer, nothing to deliver
        return ()
    raise error


def read_ack(status: int, body: bytes, receipt_handles: Sequence[str]) -> tuple[AckFailure, ...]:
    """The handles that were not accepted; those not among them are acknowledged (protocol.md 3.2).

    A failure that names no submitted handle, as in the field report of protocol.md 3.4, leaves all of them unresolved.
    Raises like `read_poll` for trouble that isn't about a handle.
    """
    if status in range(200, 300) and not body.strip():
        return ()
    root = _root(body)
    if root is None or _local(root) != "Errors":
        error = _error(status, body, "acknowledging")
        # Said of the request as a whole, as the table of protocol.md 7 has it: give up on every handle.
        code = "MessageNotExist" if error is None else error.code if isinstance(error, FixSettingsError) else None
        if error is None or code == "ReceiptHandleError":
            return tuple(AckFailure(receipt_handle=handle, code=code or "Unknown", message="") for handle in receipt_handles)
        raise error
    items = [_fields(item) for item in root]
    named = {item.get("ReceiptHandle", ""): item for item in items}
    if not items or not named.keys() <= set(receipt_handles):
        worst = items[0] if items else {}
        named = dict.fromkeys(receipt_handles, worst)
    return tuple(
        AckFailure(
            receipt_handle=handle,
            code=_legible(item.get("ErrorCode", ""), _MAX_CODE) or "Unknown",
            message=_legible(item.get("ErrorMessage", ""), _MAX_MESSAGE),
        )
        for handle, item in named.items()
    )


def read_publish(status: int, body: bytes) -> Published:
    """The id that the service gave to a published message (protocol.md 4.2). Raises like `read_poll`; GiveUpError: its XML."""
    root = _root(body)
    if status in range(200, 300) and root is not None and _local(root) == "Message":
        fields = _fields(root)
        if message_id := fields.get("MessageId"):
            md5, handle = fields.get("MessageBodyMD5"), fields.get("ReceiptHandle")
            return Published(message_id=message_id, body_md5=md5 or None, receipt_handle=handle or None)
    error = _error(status, body, "publishing")
    if error is None:
        raise BrokenAnswerError(f"publishing: the answer is {status} with MessageNotExist, which answers no publish")
    raise error


# ---- messages --------------------------------------------------------------------------------------------------------

# Hardened: no entity is resolved, nothing is fetched; depth and texts are bounded by libxml2 itself (256 levels, 10 MB).
_PARSER = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True, huge_tree=False)
# A legal body can be longer than 10 MB when it is repaired. What begins with the tag of a message has no document type, so that
# nothing in it unfolds.
_MESSAGE_PARSER = etree.XMLParser(
    resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True, huge_tree=True
)

# The documentation and the SDKs disagree about the namespace, so any of its three forms is read (protocol.md 2.6).
_FIELD_OF_TAG = {
    f"{namespace}{name}": name for name in plain.ELEMENTS for namespace in ("", f"{{{_NAMESPACE}}}", f"{{{_NAMESPACE[:-1]}}}")
}


def _messages(body: bytes) -> tuple[Message | Damaged, ...]:
    texts_of_messages = plain.read(body)
    if texts_of_messages is not None:
        return tuple([_from_texts(texts) for texts in texts_of_messages])
    root = _root(body)
    if root is None:
        raws = segments(body)
        if not raws:
            raise BrokenAnswerError(f"polling: the answer is 200 with what isn't a list of messages: {_excerpt(body)}")
        return tuple([_salvaged(raw) for raw in raws])
    if _local(root) != "Messages":
        raise BrokenAnswerError(f"polling: the answer is 200 with <{_legible(_local(root), _MAX_CODE)}> in place of <Messages>")
    elements = [element for element in root if _local(element) == "Message"]
    if not elements:
        raise BrokenAnswerError("polling: the answer is 200 without a message, where the protocol has 404 MessageNotExist")
    found = [_message(element) for element in elements]
    messages = [message for message in found if isinstance(message, Message)]
    if len(messages) == len(found):
        return tuple(messages)
    raws = segments(body)  # once for all of them
    if len(raws) != len(elements):
        raws = [etree.tostring(element, with_tail=False) for element in elements]
    return tuple([damaged(raw, m) if isinstance(m, str) else m for raw, m in zip(raws, found, strict=True)])


def _message(element: etree._Element) -> Message | str:
    """The message, or the reason why it can't be read."""
    fields: dict[str, str] = {}
    for child in element:
        name = _FIELD_OF_TAG.get(child.tag)
        if name:
            if len(child):
                return f"its {name} holds other elements"
            fields[name] = child.text or ""
    try:
        return _from_fields(fields)
    except ValueError as problem:
        return str(problem)


def _salvaged(raw: bytes) -> Message | Damaged:
    root = _root(repair(raw), _MESSAGE_PARSER)
    if root is None:
        return damaged(raw, "its XML is broken")
    fields = {_local(child): restore(child.text or "") for child in root if not len(child)}
    if not _ILLEGAL_IN_XML.isdisjoint(fields.get("ReceiptHandle", "")):  # it would spoil the ack of the whole batch
        return damaged(raw, "its ReceiptHandle holds characters that no ack can carry")
    try:
        return _from_fields(fields)
    except ValueError as problem:
        return damaged(raw, str(problem))


def _from_texts(texts: Sequence[str]) -> Message:
    """What `plain.read` has read."""
    message_id, body_md5, body, receipt_handle, published, first_consumed, next_consumed, times, tag, properties = texts
    return Message(
        message_id=message_id,
        body=body,
        body_md5=body_md5 or None,
        receipt_handle=receipt_handle,
        publish_time=int(published),
        first_consume_time=int(first_consumed),
        next_consume_time=int(next_consumed),
        consumed_times=int(times) or 1,
        tag=tag or None,
        properties=read_properties(properties),
    )


def _from_fields(fields: Mapping[str, str]) -> Message:
    """Raises ValueError, with the reason, for a message without what it can't do without."""
    get = fields.get
    message_id, receipt_handle, body = get("MessageId"), get("ReceiptHandle"), get("MessageBody")
    if not message_id or not receipt_handle or body is None:
        missing = "MessageId" if not message_id else "MessageBody" if receipt_handle else "ReceiptHandle"
        raise ValueError(f"it has no {missing}")
    next_consume_time = number(get("NextConsumeTime"))
    if next_consume_time is None:
        raise ValueError(f"its NextConsumeTime is no number: {get('NextConsumeTime', '')[:50]!r}")
    return Message(
        message_id=message_id,
        body=body,
        body_md5=get("MessageBodyMD5") or None,
        receipt_handle=receipt_handle,
        publish_time=number(get("PublishTime")),
        first_consume_time=number(get("FirstConsumeTime")),
        next_consume_time=next_consume_time,
        consumed_times=number(get("ConsumedTimes")) or 1,
        tag=get("MessageTag") or None,
        properties=read_properties(get("Properties", "")),
    )


def read_properties(text: str) -> dict[str, str]:
    """The pairs of a property string, `key:value|key:value|` (protocol.md 5).

    Split at the first colon of a pair, with or without a `|` at the end; pieces without a key or without a colon are ignored.
    """
    pairs: dict[str, str] = {}
    for piece in text.split("|"):
        key, colon, value = piece.partition(":")
        if key and colon:
            pairs[key] = value
    return pairs


def _root(body: bytes, parser: etree.XMLParser = _PARSER) -> etree._Element | None:
    """The root element; None for what isn't well-formed XML, or brings a document type along, as the service never does."""
    try:
        root = etree.fromstring(body, parser)
    except (etree.XMLSyntaxError, ValueError, LookupError):
        return None
    return None if root.getroottree().docinfo.internalDTD is not None else root


def _local(element: etree._Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _fields(element: etree._Element) -> dict[str, str]:
    return {_local(child): (child.text or "").strip() for child in element}


# ---- errors ----------------------------------------------------------------------------------------------------------

_CHECK_KEY = "check BRIDGE_ROCKETMQ__ACCESS_KEY_ID and __ACCESS_KEY_SECRET"
_REPORT = "this is a mistake of the bridge's: please report it"

# protocol.md 7, whole: what the person at the other end of the log line should do about each code.
_FATAL = {
    "AccessDenied": "grant this RAM user mq:SUB (to publish, mq:PUB) on the topic and on the group",
    "InvalidAccessKeyId": _CHECK_KEY,
    "SignatureDoesNotMatch": _CHECK_KEY,
    "InvalidAuthorizationHeader": _CHECK_KEY,
    "MissingAuthorizationHeader": "something between here and the service removes the Authorization header",
    "InvalidDateHeader": _REPORT,
    "MissingDateHeader": "something between here and the service removes the Date header",
    "TimeExpired": "set this machine's clock: it differs from the service's by more than 15 minutes",
    "InvalidArgument": "check topic, group id, instance id and tags (BRIDGE_ROCKETMQ__…)",
    "InvalidDigest": _REPORT,
    "InvalidDegist": _REPORT,
    "InvalidRequestURL": "check BRIDGE_ROCKETMQ__ENDPOINT and __TOPIC",
    "InvalidQueryString": "check BRIDGE_ROCKETMQ__GROUP_ID, __INSTANCE_ID and __TAG",
    "MissingReceiptHandle": _REPORT,
    "ReceiptHandleError": _REPORT,
    "HTTPForbidden": "allow access over HTTP for this instance and group in the console",
    "TopicNotExist": "check BRIDGE_ROCKETMQ__TOPIC, __INSTANCE_ID, and that __ENDPOINT is this instance's",
    "SubscriptionNotExist": "create the group in the console, as a group for HTTP, and check BRIDGE_ROCKETMQ__GROUP_ID",
    "InstanceNotExist": "check BRIDGE_ROCKETMQ__INSTANCE_ID, and that __ENDPOINT is this instance's",
}
_TRANSIENT = frozenset({"InternalError", "InternalServerError"})
_MAX_CODE, _MAX_MESSAGE = 64, 300  # characters, where an answer is quoted
_CLASS_OF_CODE: dict[str, type[BridgeError]] = {"MalformedXML": GiveUpError, "MessageNotExist": BrokenAnswerError}


def _error(status: int, body: bytes, doing: str) -> BridgeError | None:
    """What an answer that isn't a success means; None for MessageNotExist, which is a normal answer.

    By status first, body second, as load balancers answer with HTML or nothing (protocol.md 2.5).
    """
    root = _root(body)
    fields = _fields(root) if root is not None and _local(root) == "Error" else {}
    code = _legible(fields.get("Code", ""), _MAX_CODE)
    if not code:
        text = f"{doing}: the answer is {status} with {_excerpt(body)}"
        return TryAgainError(text) if status >= 500 else BrokenAnswerError(f"{text}; is the endpoint the service's HTTP one?")  # noqa: PLR2004
    if code == "MessageNotExist" and status == 404:  # noqa: PLR2004
        return None
    text = f"{doing}: the service says {code} ({status}): {_legible(fields.get('Message', ''), _MAX_MESSAGE)}"
    if request_id := fields.get("RequestId"):
        text += f" [request {_legible(request_id, _MAX_CODE)}]"
    if code == "QpsLimitExceeded":
        return ThrottledError(text)
    if status >= 500 or code in _TRANSIENT:  # noqa: PLR2004
        return TryAgainError(text)
    if code in _CLASS_OF_CODE:
        return _CLASS_OF_CODE[code](text)
    return FixSettingsError(f"{text}; {_FATAL.get(code, 'look this code up in the service documentation')}", code=code)


def _legible(text: str, length: int) -> str:
    """The beginning of what somebody wrote, fit for one line of a log and for a terminal, which some characters steer."""
    return "".join([character if character.isprintable() else " " for character in text[:length]])


def _excerpt(body: bytes) -> str:
    """The beginning of an answer that nobody understands, fit for one line of a log."""
    if not body:
        return "an empty body"
    return repr(body[:200].decode(errors="replace")) + (" …" if len(body) > 200 else "")  # noqa: PLR2004
