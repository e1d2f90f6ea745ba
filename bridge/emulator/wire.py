"""The XML of the protocol, read and written the emulator's own way (protocol.md 2.3 to 4.2)."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lxml import etree

from bridge.emulator.broker import Published
from bridge.emulator.errors import ServiceError
from bridge.emulator.properties import format_properties, parse_properties
from bridge.emulator.stored import AckFailure
from bridge.rocketmq.message import MAX_BATCH, Message

# Java's error parser knows this spelling only, without a slash at the end (protocol.md 2.6).
_NAMESPACE = 'xmlns="http://mq.aliyuncs.com/doc/v1"'
_DECLARATION = '<?xml version="1.0" ?>\n'

# What XML 1.0 has no place for (protocol.md 5.4). The service was seen writing references to it all the same.
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")

ENDLESS = f"{_DECLARATION}<Messages {_NAMESPACE}>\n<Message>\n<MessageBody>".encode()
"""How an answer begins whose first body never ends."""

_PARSER = etree.XMLParser(
    resolve_entities=False, load_dtd=False, no_network=True, huge_tree=False, remove_comments=True, remove_pis=True
)


@dataclass(frozen=True, slots=True)
class PublishDocument:
    """What the body of a publish says."""

    body: str
    tag: str | None
    properties: dict[str, str]


def read_publish(document: bytes) -> PublishDocument:
    """Read a `<Message>`, its children in any order (protocol.md 4.1).

    Raises `MalformedXML` for what is no XML, `InvalidArgument` for XML that is no message.
    """
    root = _parse(document, "Message")
    texts = {_local_name(child): _text(child) for child in root}
    if "MessageBody" not in texts:
        raise ServiceError("InvalidArgument", "MessageBody is required.")
    return PublishDocument(texts["MessageBody"], texts.get("MessageTag") or None, parse_properties(texts.get("Properties", "")))


def read_receipt_handles(document: bytes) -> list[str]:
    """Read the `<ReceiptHandles>` of an ack (protocol.md 3.1).

    Raises `MissingReceiptHandle` for none or an empty one, and otherwise as `read_publish`.
    """
    root = _parse(document, "ReceiptHandles")
    handles = [_text(child).strip() for child in root if _local_name(child) == "ReceiptHandle"]
    if not handles or not all(handles):
        raise ServiceError("MissingReceiptHandle")
    if len(handles) > MAX_BATCH:
        raise ServiceError("InvalidArgument", f"An ack takes at most {MAX_BATCH} receipt handles.")
    return handles


def write_messages(elements: Iterable[str]) -> bytes:
    """The answer to a poll that got the messages of these elements (protocol.md 2.3)."""
    return f"{_DECLARATION}<Messages {_NAMESPACE}>\n{''.join(elements)}</Messages>\n".encode()


def write_message(message: Message) -> str:
    """One `<Message>` (protocol.md 2.3): no attribute, no CDATA, nothing self-closing (2.4)."""
    tag = f"<MessageTag>{_escape(message.tag)}</MessageTag>\n" if message.tag else ""
    properties = ""
    if message.properties:
        properties = f"<Properties>{_escape(format_properties(message.properties))}</Properties>\n"
    return (
        "<Message>\n"
        f"<MessageId>{message.message_id}</MessageId>\n"
        f"<MessageBodyMD5>{message.body_md5}</MessageBodyMD5>\n"
        f"<MessageBody>{_escape(message.body)}</MessageBody>\n"
        f"<ReceiptHandle>{message.receipt_handle}</ReceiptHandle>\n"
        f"<PublishTime>{message.publish_time}</PublishTime>\n"
        f"<FirstConsumeTime>{message.first_consume_time}</FirstConsumeTime>\n"
        f"<NextConsumeTime>{message.next_consume_time}</NextConsumeTime>\n"
        f"<ConsumedTimes>{message.consumed_times}</ConsumedTimes>\n"
        f"{tag}{properties}</Message>\n"
    )


def write_published(published: Published) -> bytes:
    """The answer to a publish (protocol.md 4.2)."""
    handle = f"<ReceiptHandle>{published.receipt_handle}</ReceiptHandle>\n" if published.receipt_handle else ""
    return (
        f"{_DECLARATION}<Message {_NAMESPACE}>\n<MessageId>{published.message_id}</MessageId>\n"
        f"<MessageBodyMD5>{published.body_md5}</MessageBodyMD5>\n{handle}</Message>\n"
    ).encode()


def write_ack_failures(failures: Sequence[AckFailure]) -> bytes:
    """The answer to an ack of which some handles failed; Go panics when none did (protocol.md 3.3)."""
    errors = "".join(
        f"<Error><ErrorCode>{failure.code}</ErrorCode><ErrorMessage>{_ACK_TEXTS[failure.code]}</ErrorMessage>"
        f"<ReceiptHandle>{_escape(failure.receipt_handle)}</ReceiptHandle></Error>\n"
        for failure in failures
    )
    return f"{_DECLARATION}<Errors {_NAMESPACE}>\n{errors}</Errors>\n".encode()


def write_error(error: ServiceError, *, request_id: str, host_id: str) -> bytes:
    """A request-level error; Python and Node need all four children (protocol.md 2.5)."""
    return (
        f"{_DECLARATION}<Error {_NAMESPACE}>\n<Code>{error.code}</Code>\n<Message>{_escape(error.message)}</Message>\n"
        f"<RequestId>{request_id}</RequestId>\n<HostId>{_escape(host_id)}</HostId>\n</Error>\n"
    ).encode()


_ACK_TEXTS = {
    "ReceiptHandleError": "The receipt handle you provide is not valid.",
    "MessageNotExist": "The receipt handle you provide has expired.",
}


def _parse(document: bytes, name: str) -> etree._Element:
    try:
        root = etree.fromstring(document, _PARSER)
    except etree.XMLSyntaxError as error:
        raise ServiceError("MalformedXML") from error
    # Entities come in through a document type only, and no SDK sends one.
    if root.getroottree().docinfo.internalDTD is not None:
        raise ServiceError("MalformedXML", "A document type is not allowed.")
    if _local_name(root) != name:
        raise ServiceError("InvalidArgument", f"The root element is not {name}.")
    return root


def _local_name(element: etree._Element) -> str:
    # The SDKs send the namespace with a slash, without one, or not at all (protocol.md 2.6).
    return str(element.tag).rpartition("}")[2]


def _text(element: etree._Element) -> str:
    if len(element):
        raise ServiceError("InvalidArgument", f"{_local_name(element)} holds other elements.")
    return element.text or ""


def _escape(text: str) -> str:
    # A raw CR would be read as LF.
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\r", "&#13;")
    return _ILLEGAL.sub(lambda match: f"&#{ord(match[0])};", escaped)
