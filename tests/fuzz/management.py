"""Whatever the management API answers, it is read or classed (protocol.md 8.3, 8.4)."""

import json

from alibabacloud_ons20190214 import models
from alibabacloud_tea_openapi.exceptions import ClientException

from bridge.rocketmq.management import ACCUMULATE, GET_CONNECTION, Operation, backlog, explained, listed

MAX_ERROR = 1000
"""The longest text of an error, in characters."""
NAMES = ("Data", "ConnectionList", "ConnectionDo", "ClientId", "ClientAddr", "Language", "Version", "MessageModel", "RequestId")
NUMBERS = ("Online", "TotalDiff", "DelayTime", "ConsumeTps", "LastTimestamp", "Code", "Message", "statusCode")
TOKENS = [*(f'"{name}":'.encode() for name in (*NAMES, *NUMBERS)), b"true", b"null", b"{}", b"[]", b"1e400", b"-1", b"\\u0000"]


def management(document: bytes) -> None:
    """An answer in JSON, to either question, and as an error."""
    try:
        told = json.loads(document)
    except (ValueError, RecursionError):  # which is the SDK's to find out
        return
    fields = told if isinstance(told, dict) else {}
    refusal = ClientException(code=fields.get("Code"), status_code=fields.get("statusCode"), data=told)
    for operation, model, read in (
        (GET_CONNECTION, models.OnsConsumerGetConnectionResponseBody, listed),
        (ACCUMULATE, models.OnsConsumerAccumulateResponseBody, backlog),
    ):
        _is_classed(refusal, operation)
        try:
            read(model().from_map(told).data)
        except Exception as problem:  # noqa: BLE001 - whatever the SDK's parts raise, it is classed
            _is_classed(problem, operation)


def _is_classed(problem: Exception, operation: Operation) -> None:
    text = str(explained(problem, operation, "ons.example.com"))
    assert 0 < len(text) <= MAX_ERROR, len(text)
