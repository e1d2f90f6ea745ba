"""What the service refuses, by the codes of protocol.md 7."""

STATUS = {
    "AccessDenied": 403,
    "HTTPForbidden": 403,
    "InternalError": 500,
    "InvalidAccessKeyId": 403,
    "InvalidArgument": 400,
    "InvalidAuthorizationHeader": 400,
    "InvalidDateHeader": 400,
    "InvalidDigest": 400,
    "InvalidQueryString": 400,
    "InvalidRequestURL": 400,
    "MalformedXML": 400,
    "MessageNotExist": 404,
    "MissingAuthorizationHeader": 400,
    "MissingDateHeader": 400,
    "MissingReceiptHandle": 404,  # the error table says 400; the operation's own page shows 404 (protocol.md 3.2)
    "QpsLimitExceeded": 400,
    "SignatureDoesNotMatch": 403,
    "TimeExpired": 408,
    "TopicNotExist": 404,
}
"""The HTTP status of each code (protocol.md 7)."""

_TEXTS = {
    "AccessDenied": "The OwnerId that your Access Key Id associated to is forbidden for this operation.",
    "HTTPForbidden": "This method is not allowed here.",
    "InternalError": "Interal error.",  # spelled so by the service (protocol.md 7)
    "InvalidAccessKeyId": "The AccessKey Id you provided is not exist.",
    "InvalidAuthorizationHeader": "The Authorization header format is invalid.",
    "InvalidDateHeader": "The Date header format is invalid.",
    "InvalidDigest": "The Content-MD5 you specified is invalid.",
    "MalformedXML": "The XML you provided is invalid.",
    "MessageNotExist": "Message not exist.",
    "MissingAuthorizationHeader": "Authorization header is required.",
    "MissingDateHeader": "Date header is required.",
    "MissingReceiptHandle": "ReceiptHandle is required.",
    "QpsLimitExceeded": "The qps of this request exceeds the limit.",
    "SignatureDoesNotMatch": "The request signature we calculated does not match the signature you provided.",
    "TimeExpired": "The http request you sent is expired.",
    "TopicNotExist": "The topic you provided does not exist.",
}


class ServiceError(Exception):
    """A request-level error, written as one `<Error>` (protocol.md 2.5).

    `code` is one of `STATUS`; `message` replaces the code's usual text, and is required where there is none.
    """

    def __init__(self, code: str, message: str | None = None) -> None:
        self.code = code
        self.status = STATUS[code]
        self.message = message or _TEXTS[code]
        super().__init__(f"{code}: {self.message}")


class ManagementError(Exception):
    """A refusal of the management API, written as JSON (protocol.md 8.4). `status` is the HTTP status."""

    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        self.code = code
        self.status = status
        self.message = message
        super().__init__(f"{code}: {message}")
