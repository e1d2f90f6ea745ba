"""Values to requests, answers to values or to classed errors (protocol.md 2 to 5, 7); point 34 of protocol.md 10."""

from dataclasses import replace
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

import pytest

from bridge.errors import BridgeError, BrokenAnswerError, FixSettingsError, GiveUpError, ThrottledError, TryAgainError
from bridge.rocketmq.codec import (
    AckFailure,
    Published,
    Request,
    Subscription,
    max_answer_bytes,
    publish,
    read_ack,
    read_poll,
    read_properties,
    read_publish,
)
from bridge.rocketmq.message import MAX_BODY_BYTES, Message
from rocketmq.documents import DECLARATION, NAMESPACE, ack_errors, batch, element, error, expected

SIMPLE = Subscription(topic="topicA", group="GID_a")
FULL = Subscription(topic="topicA", group="GID_a", instance="MQ_INST_1", tag="TagA||TagB *~", ordered=True)
FULL_QUERY = "ns=MQ_INST_1&consumer=GID_a&tag=TagA%7C%7CTagB%20%2A~"


# ---- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "method", "target"),
    [
        (SIMPLE.poll(16, 30), "GET", "/topics/topicA/messages?consumer=GID_a&numOfMessages=16&waitseconds=30"),
        (SIMPLE.poll(1, 0), "GET", "/topics/topicA/messages?consumer=GID_a&numOfMessages=1"),
        (
            FULL.poll(3, 5),
            "GET",
            f"/topics/topicA/messages?{FULL_QUERY}&numOfMessages=3&waitseconds=5&trans=order",
        ),
        (SIMPLE.ack(["h"]), "DELETE", "/topics/topicA/messages?consumer=GID_a"),
        (FULL.ack(["h"]), "DELETE", "/topics/topicA/messages?ns=MQ_INST_1&consumer=GID_a"),
        (publish("topicA", body="a"), "POST", "/topics/topicA/messages"),
        (publish("topicA", body="a", instance="MQ_INST_1"), "POST", "/topics/topicA/messages?ns=MQ_INST_1"),
    ],
)
def test_a_request_says_what_is_wanted_and_nothing_that_is_not_set(request_: Request, method: str, target: str) -> None:
    assert (request_.method, request_.target) == (method, target)
    # A body and its type come together: the type is signed (protocol.md 1.2).
    assert bool(request_.body) == bool(request_.content_type) == (method != "GET")


def test_what_the_query_holds_is_what_the_subscription_says() -> None:
    tag = "a b+c&d=e/f?g#h%i||é😀"

    query = parse_qs(urlsplit(Subscription(topic="t", group="GID_a&b", tag=tag).poll(1, 0).target).query, strict_parsing=True)

    assert query == {"consumer": ["GID_a&b"], "tag": [tag], "numOfMessages": ["1"]}


def test_the_longest_request_line_is_taken_and_one_character_more_is_refused_with_how_much_to_cut() -> None:
    rest = len(f"GET {Subscription(topic='topicA', group='GID_a', tag='x').poll(16, 30).target} HTTP/1.1") - 1
    longest = Subscription(topic="topicA", group="GID_a", tag="x" * (1024 - rest))

    assert len(f"GET {longest.poll(16, 30).target} HTTP/1.1") == 1024
    with pytest.raises(FixSettingsError, match=r"1,025 characters.* 1 characters shorter"):
        Subscription(topic="topicA", group="GID_a", tag="x" * (1025 - rest))


def texts(request: Request) -> list[str | tuple[str, str | None]]:
    """The root's name, and the names and texts of its children, as another parser reads them."""
    root = ET.fromstring(request.body)  # noqa: S314 - our own document
    namespace = "{http://mq.aliyuncs.com/doc/v1/}"
    return [root.tag.removeprefix(namespace), *((child.tag.removeprefix(namespace), child.text) for child in root)]


def test_an_ack_holds_its_receipt_handles() -> None:
    assert texts(FULL.ack(["h1", "a<&>b"])) == ["ReceiptHandles", ("ReceiptHandle", "h1"), ("ReceiptHandle", "a<&>b")]


@pytest.mark.parametrize(
    "body", ["a<b>&\r\n\t中\"'😀", "\r", " ", "]]>", "a\rb\r\rc\r\n", "&#13;", "\x85\u2028\ufdd0\U0001ffff"]
)
def test_a_published_body_reaches_an_xml_parser_unchanged(body: str) -> None:
    request = publish("topicA", body=body, tag="a&b", properties={"KEYS": "k 1", "n": "v;2"})

    assert texts(request) == [
        "Message",
        ("MessageBody", body),
        ("MessageTag", "a&b"),
        ("Properties", "KEYS:k 1|n:v;2|"),
    ]


@pytest.mark.parametrize(
    "message",
    [
        {"body": ""},
        {"body": "a\x00"},
        {"body": "\x0b"},
        {"body": "\x1f"},
        {"body": "\ud83d"},
        {"body": "\ufffe"},
        {"body": "\uffff"},
        {"body": "a", "tag": "\x01"},
        {"body": "a", "properties": {"n": "\x01"}},
        {"body": "a", "properties": {"": "v"}},
        {"body": "a", "properties": {"n": ""}},
        *[{"body": "a", "properties": {"n": f"v{forbidden}"}} for forbidden in "\"'<>&:|"],
        *[{"body": "a", "properties": {f"n{forbidden}": "v"}} for forbidden in "\"'<>&:|"],
        {"body": "x" * (MAX_BODY_BYTES + 1)},
        {"body": "中" * (MAX_BODY_BYTES // 3 + 1)},
    ],
    ids=lambda message: ascii(message)[:40],
)
def test_what_the_protocol_cannot_carry_is_not_published(message: dict[str, object]) -> None:
    with pytest.raises(GiveUpError):
        publish("topicA", **message)  # type: ignore[arg-type]  # a table's row


def test_the_largest_body_is_published() -> None:
    assert len(publish("topicA", body="中" * (MAX_BODY_BYTES // 3) + "a").body) > MAX_BODY_BYTES


# ---- errors ----------------------------------------------------------------------------------------------------------

ERRORS_OF_PROTOCOL_7 = [
    ("AccessDenied", 403, FixSettingsError),
    ("InvalidAccessKeyId", 403, FixSettingsError),
    ("SignatureDoesNotMatch", 403, FixSettingsError),
    ("InvalidAuthorizationHeader", 400, FixSettingsError),
    ("MissingAuthorizationHeader", 400, FixSettingsError),
    ("InvalidDateHeader", 400, FixSettingsError),
    ("MissingDateHeader", 400, FixSettingsError),
    ("TimeExpired", 408, FixSettingsError),
    ("InvalidArgument", 400, FixSettingsError),
    ("InvalidDigest", 400, FixSettingsError),
    ("InvalidDegist", 400, FixSettingsError),
    ("InvalidRequestURL", 400, FixSettingsError),
    ("InvalidQueryString", 400, FixSettingsError),
    ("MalformedXML", 400, GiveUpError),
    ("MissingReceiptHandle", 400, FixSettingsError),
    ("MissingReceiptHandle", 404, FixSettingsError),
    ("ReceiptHandleError", 400, FixSettingsError),
    ("QpsLimitExceeded", 400, ThrottledError),
    ("InternalError", 500, TryAgainError),
    ("InternalServerError", 500, TryAgainError),
    ("HTTPForbidden", 403, FixSettingsError),
    ("TopicNotExist", 404, FixSettingsError),
    ("SubscriptionNotExist", 404, FixSettingsError),
    ("InstanceNotExist", 404, FixSettingsError),
    ("SomethingNew", 418, FixSettingsError),
    ("SomethingNew", 500, TryAgainError),
    ("QpsLimitExceeded", 503, ThrottledError),
]


@pytest.mark.parametrize(
    ("operation", "code", "status", "kind"),
    [
        (operation, *row)
        for operation in ("poll", "ack", "publish")
        for row in ERRORS_OF_PROTOCOL_7
        if (operation, row[0]) != ("ack", "ReceiptHandleError")  # that is about the handles
    ],
)
def test_an_error_of_the_service_becomes_what_protocol_7_says(
    operation: str, code: str, status: int, kind: type[BridgeError]
) -> None:
    problem = failure_of(operation, status, error(code, "The text &lt;of> the service."))

    assert type(problem) is kind
    for told in (code, str(status), "The text <of> the service.", "5DAEE3FF463541AD6E0322EB"):
        assert told in str(problem)
    assert not isinstance(problem, FixSettingsError) or problem.code == code


HTML = b"<html><head><title>502 Bad Gateway</title></head>\n<body>\x1b[31m</body></html>" * 100


@pytest.mark.parametrize("operation", ["poll", "ack", "publish"])
@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (502, HTML, TryAgainError),
        (503, b"", TryAgainError),
        (504, b"upstream request timeout", TryAgainError),
        (500, b"<Error></Error>", TryAgainError),
        (404, b"", BrokenAnswerError),
        (404, HTML, BrokenAnswerError),
        (403, b"Forbidden", BrokenAnswerError),
        (400, b'{"code": "InvalidArgument"}', BrokenAnswerError),
        (400, b"<Error><Code></Code></Error>", BrokenAnswerError),
        (301, b"", BrokenAnswerError),
        (302, HTML, BrokenAnswerError),
        (204, HTML, BrokenAnswerError),
    ],
)
def test_what_is_not_the_service_speaking_is_tried_again(
    operation: str, status: int, body: bytes, kind: type[BridgeError]
) -> None:
    problem = failure_of(operation, status, body)

    assert type(problem) is kind
    assert str(status) in str(problem)
    assert len(str(problem)) < 400
    assert str(problem).isprintable()


def failure_of(operation: str, status: int, body: bytes) -> BridgeError:
    with pytest.raises(BridgeError) as caught:
        if operation == "poll":
            read_poll(status, body)
        elif operation == "ack":
            read_ack(status, body, ["h"])
        else:
            read_publish(status, body)
    return caught.value


# ---- consume ---------------------------------------------------------------------------------------------------------

MESSAGE = expected()
PRETTY = element().replace("<", "\n    <").replace("\n    </", "</")
REVERSED = "\n".join(["<Message>", *reversed(element().splitlines()[1:-1]), "</Message>"])
OPTIONAL = ("MessageBodyMD5", "PublishTime", "FirstConsumeTime", "ConsumedTimes", "MessageTag", "Properties")


def without(*names: str) -> str:
    lines = element().splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(tuple(f"<{name}>" for name in names)))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        pytest.param(batch(element()), MESSAGE, id="as documented"),
        pytest.param(batch(element(), declaration=""), MESSAGE, id="no declaration"),
        pytest.param(b"\xef\xbb\xbf" + batch(element()), MESSAGE, id="byte order mark"),
        pytest.param(batch(element(), namespace=NAMESPACE[:-1] + '/"'), MESSAGE, id="namespace with a slash"),
        pytest.param(batch(element(), namespace=""), MESSAGE, id="no namespace"),
        pytest.param(batch(PRETTY), MESSAGE, id="pretty-printed"),
        pytest.param(batch(element().replace("\n", "")), MESSAGE, id="on one line"),
        pytest.param(batch(REVERSED), MESSAGE, id="any order"),
        pytest.param(batch(element(body="<![CDATA[<b> &amp;]]>")), replace(MESSAGE, body="<b> &amp;"), id="CDATA"),
        pytest.param(batch(element(body="a<![CDATA[<]]>b<![CDATA[>]]>")), replace(MESSAGE, body="a<b>"), id="split CDATA"),
        pytest.param(batch(element(body="a<!-- no -->b<?no pi?>c")), replace(MESSAGE, body="abc"), id="comment"),
        pytest.param(
            batch(element(body="&lt;&#13;&#xA;&#9;&#x1F600;😀&quot;&apos;&amp;amp;")),
            replace(MESSAGE, body="<\r\n\t😀😀\"'&amp;"),
            id="references",
        ),
        pytest.param(batch(element(body="")), replace(MESSAGE, body=""), id="empty body"),
        pytest.param(batch(element(body=" \n ")), replace(MESSAGE, body=" \n "), id="blank body"),
        pytest.param(
            batch(element().replace("<MessageBody>a</MessageBody>", "<MessageBody/>")),
            replace(MESSAGE, body=""),
            id="self-closing body",
        ),
        pytest.param(
            batch(without("MessageTag", "Properties").replace("</Message>", "<MessageTag/><Properties/></Message>")),
            replace(MESSAGE, tag=None, properties={}),
            id="self-closing tag and properties",
        ),
        pytest.param(
            batch("<Trace>x</Trace>", element().replace("</Message>", "<New><MessageId>no</MessageId></New></Message>")),
            MESSAGE,
            id="unknown elements",
        ),
        pytest.param(batch(element().replace("<Message>", '<Message a="b">')), MESSAGE, id="an attribute"),
        pytest.param(
            batch(without(*OPTIONAL)),
            replace(MESSAGE, body_md5=None, publish_time=None, first_consume_time=None, tag=None, properties={}),
            id="nothing optional",
        ),
        pytest.param(
            batch(element().replace("<FirstConsumeTime>1571742902463", "<FirstConsumeTime>n/a")),
            replace(MESSAGE, first_consume_time=None),
            id="a first consume time that is no number",
        ),
        pytest.param(
            batch(element().replace("<ConsumedTimes>1", "<ConsumedTimes>289")),
            replace(MESSAGE, consumed_times=289),
            id="the last delivery",
        ),
    ],
)
def test_a_message_is_read_from_every_form_that_the_sdks_accept(document: bytes, message: Message) -> None:
    assert read_poll(200, document) == (message,)


def test_prefixed_names_are_read_as_the_namespace_says() -> None:
    prefixed = element().replace("</", "\0").replace("<", "<mq:").replace("\0", "</mq:")
    document = f'<mq:Messages xmlns:mq="http://mq.aliyuncs.com/doc/v1">{prefixed}</mq:Messages>'

    assert read_poll(200, document.encode()) == (expected(),)


def test_the_messages_of_a_batch_keep_their_order() -> None:
    assert read_poll(200, batch(*(element(n) for n in range(1, 10)))) == tuple(expected(n) for n in range(1, 10))


def test_nothing_to_deliver_is_no_error() -> None:
    assert read_poll(404, error("MessageNotExist")) == ()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n",
        batch(),
        b"<Messages/>",
        error("MessageNotExist"),
        element().encode(),
        HTML,
        b"{}",
        b"<Messages>",
        ack_errors(),
    ],
)
def test_a_success_that_holds_no_messages_is_broken(body: bytes) -> None:
    with pytest.raises(BrokenAnswerError, match="200"):
        read_poll(200, body)


def test_the_largest_legal_message_is_read_and_fits_the_bound_on_answers() -> None:
    document = batch(element(body="&quot;" * MAX_BODY_BYTES))

    assert len(document) <= max_answer_bytes(1)
    assert read_poll(200, document) == (expected(body='"' * MAX_BODY_BYTES),)


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", {}),
        ("a:1|b:2|", {"a": "1", "b": "2"}),
        ("a:1|b:2", {"a": "1", "b": "2"}),
        ("__BORNHOST:fe80::1|", {"__BORNHOST": "fe80::1"}),
        ("|:1|novalue|a:|b: 2 |", {"a": "", "b": " 2 "}),
    ],
)
def test_properties_are_split_at_the_first_colon_and_what_is_no_pair_is_skipped(text: str, pairs: dict[str, str]) -> None:
    assert read_properties(text) == pairs


# ---- ack -------------------------------------------------------------------------------------------------------------

HANDLES = ["h1", "h2", "h3"]


def refused(*codes_and_handles: tuple[str, str]) -> tuple[AckFailure, ...]:
    return tuple(AckFailure(receipt_handle=handle, code=code, message="Not taken.") for code, handle in codes_and_handles)


@pytest.mark.parametrize(
    ("status", "body", "failures"),
    [
        (204, b"", ()),
        (200, b"\n", ()),
        (404, ack_errors(("ReceiptHandleError", "h2")), refused(("ReceiptHandleError", "h2"))),
        (400, ack_errors(("ReceiptHandleError", "h2")), refused(("ReceiptHandleError", "h2"))),
        (200, ack_errors(("ReceiptHandleError", "h2")), refused(("ReceiptHandleError", "h2"))),
        (404, ack_errors(("ReceiptHandleError", "\n  h2\n")), refused(("ReceiptHandleError", "h2"))),
        (
            404,
            ack_errors(("MessageNotExist", "h1"), ("ReceiptHandleError", "h3")),
            refused(("MessageNotExist", "h1"), ("ReceiptHandleError", "h3")),
        ),
    ],
)
def test_an_ack_tells_exactly_the_handles_that_were_not_accepted(
    status: int, body: bytes, failures: tuple[AckFailure, ...]
) -> None:
    assert read_ack(status, body, HANDLES) == failures


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(ack_errors(("ReceiptHandleError", "")), "ReceiptHandleError", id="empty handle"),
        pytest.param(
            ack_errors(("ReceiptHandleError", "h1"), ("ReceiptHandleError", "")), "ReceiptHandleError", id="one of two empty"
        ),
        pytest.param(ack_errors(("ReceiptHandleError", "foreign")), "ReceiptHandleError", id="unknown handle"),
        pytest.param(
            ack_errors(("ReceiptHandleError", "h1")).replace(b"<ReceiptHandle>h1</ReceiptHandle>", b""),
            "ReceiptHandleError",
            id="no handle element",
        ),
        pytest.param(ack_errors(), "Unknown", id="no item"),
        pytest.param(b"<Errors/>", "Unknown", id="self-closing"),
        pytest.param(error("MessageNotExist"), "MessageNotExist", id="an error of the whole call"),
    ],
)
def test_point_34_a_failure_that_names_no_handle_of_ours_leaves_all_of_them_unresolved(body: bytes, code: str) -> None:
    failures = read_ack(404, body, HANDLES)

    assert [failure.receipt_handle for failure in failures] == HANDLES
    assert {failure.code for failure in failures} == {code}


# ---- publish ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inner", "published"),
    [
        (
            "<MessageId>ID</MessageId><MessageBodyMD5>0CC1</MessageBodyMD5>",
            Published(message_id="ID", body_md5="0CC1", receipt_handle=None),
        ),
        (
            "<MessageId>ID</MessageId>\n<MessageBodyMD5>0CC1</MessageBodyMD5>\n<ReceiptHandle>h</ReceiptHandle>",
            Published(message_id="ID", body_md5="0CC1", receipt_handle="h"),
        ),
        ("<New>x</New><MessageId>ID</MessageId>", Published(message_id="ID", body_md5=None, receipt_handle=None)),
    ],
)
@pytest.mark.parametrize("namespace", ["", NAMESPACE, NAMESPACE[:-1] + '/"'])
@pytest.mark.parametrize("status", [200, 201])
def test_a_published_message_is_known_by_its_id(status: int, namespace: str, inner: str, published: Published) -> None:
    assert read_publish(status, f"{DECLARATION}<Message{namespace}>{inner}</Message>".encode()) == published


@pytest.mark.parametrize(
    ("status", "body"),
    [(201, b""), (201, b"<Message></Message>"), (200, batch(element())), (404, error("MessageNotExist"))],
)
def test_an_answer_without_an_id_confirms_no_publish(status: int, body: bytes) -> None:
    with pytest.raises(BrokenAnswerError):
        read_publish(status, body)


@pytest.mark.parametrize(
    ("code", "status"), [("ReceiptHandleError", 400), ("ReceiptHandleError", 404), ("MessageNotExist", 404)]
)
def test_an_error_about_handles_that_stands_for_the_whole_request_gives_up_on_each(code: str, status: int) -> None:
    failures = read_ack(status, error(code, "not valid"), ["h1", "h2"])
    assert [(failure.receipt_handle, failure.code) for failure in failures] == [("h1", code), ("h2", code)]


@pytest.mark.parametrize(("status", "kind"), [(500, TryAgainError), (403, BrokenAnswerError)])
def test_message_not_exist_is_a_normal_answer_only_with_its_own_status(status: int, kind: type[BridgeError]) -> None:
    assert type(failure_of("poll", status, error("MessageNotExist", "x"))) is kind
