"""Answers as the service writes them (protocol.md 2.3 to 4.2), and the values that are read from them."""

from bridge.rocketmq.message import Message

NAMESPACE = ' xmlns="http://mq.aliyuncs.com/doc/v1"'
DECLARATION = '<?xml version="1.0" ?>\n'


def expected(number: int = 1, body: str = "a") -> Message:
    """The message that `element` writes, as a value."""
    return Message(
        message_id=f"1E057D5E6EAD42A579937046FE17AA0{number}",
        body=body,
        body_md5="0CC175B9C0F1B6A831C399E269772661",
        receipt_handle=f"1E057D5E6EAD42A579937046FE17AA0{number}-MTI5N",
        publish_time=1571742900759,
        first_consume_time=1571742902463,
        next_consume_time=1571743202463,
        consumed_times=1,
        tag="Tag",
        properties={"KEYS": "MessageKey", "__BORNHOST": "30.5.0.1"},
    )


def element(number: int = 1, body: str = "a") -> str:
    """The sample message of protocol.md 2.3; `body` is XML already."""
    return (
        "<Message>\n"
        f"<MessageId>1E057D5E6EAD42A579937046FE17AA0{number}</MessageId>\n"
        "<MessageBodyMD5>0CC175B9C0F1B6A831C399E269772661</MessageBodyMD5>\n"
        f"<MessageBody>{body}</MessageBody>\n"
        f"<ReceiptHandle>1E057D5E6EAD42A579937046FE17AA0{number}-MTI5N</ReceiptHandle>\n"
        "<PublishTime>1571742900759</PublishTime>\n"
        "<FirstConsumeTime>1571742902463</FirstConsumeTime>\n"
        "<NextConsumeTime>1571743202463</NextConsumeTime>\n"
        "<ConsumedTimes>1</ConsumedTimes>\n"
        "<MessageTag>Tag</MessageTag>\n"
        "<Properties>KEYS:MessageKey|__BORNHOST:30.5.0.1|</Properties>\n"
        "</Message>\n"
    )


def batch(*elements: str | bytes, namespace: str = NAMESPACE, declaration: str = DECLARATION) -> bytes:
    """The answer to a poll that holds these messages."""
    inner = b"".join(e if isinstance(e, bytes) else e.encode() for e in elements)
    return f"{declaration}<Messages{namespace}>\n".encode() + inner + b"</Messages>\n"


def error(code: str, message: str = "What went wrong.") -> bytes:
    """The answer to a call that failed."""
    return (
        f"{DECLARATION}<Error{NAMESPACE}>\n<Code>{code}</Code>\n<Message>{message}</Message>\n"
        "<RequestId>5DAEE3FF463541AD6E0322EB</RequestId>\n<HostId>http://123.mqrest.cn-hangzhou.aliyuncs.com</HostId>\n"
        "</Error>\n"
    ).encode()


def ack_errors(*items: tuple[str, str]) -> bytes:
    """The answer to an ack that failed for these pairs of a code and a receipt handle."""
    errors = "".join(
        f"<Error><ErrorCode>{code}</ErrorCode><ErrorMessage>Not taken.</ErrorMessage>"
        f"<ReceiptHandle>{handle}</ReceiptHandle></Error>\n"
        for code, handle in items
    )
    return f"{DECLARATION}<Errors{NAMESPACE}>\n{errors}</Errors>\n".encode()
