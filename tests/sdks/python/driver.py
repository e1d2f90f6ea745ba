"""Drives the official Python SDK: one JSON object a line on stdin, one on stdout, as `sdks/drivers.py` describes."""

import json
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from mq_http_sdk.mq_client import MQClient
from mq_http_sdk.mq_consumer import Message
from mq_http_sdk.mq_producer import TopicMessage

Fields = dict[str, Any]


@cache
def client(endpoint: str, access_key_id: str, access_key_secret: str, security_token: str | None) -> MQClient:
    return MQClient(endpoint, access_key_id, access_key_secret, security_token or "")


def client_of(call: Fields) -> MQClient:
    return client(call["endpoint"], call["accessKeyId"], call["accessKeySecret"], call["securityToken"])


def consumer_of(call: Fields) -> Any:
    return client_of(call).get_consumer(call["instanceId"], call["topic"], call["group"], call.get("tag"))


def trans_producer_of(call: Fields) -> Any:
    return client_of(call).get_trans_producer(call["instanceId"], call["topic"], call["group"])


def publish(call: Fields) -> Fields:
    message = TopicMessage(call["body"], call.get("tag") or "")
    for name, value in call.get("properties", {}).items():
        message.put_property(name, value)
    if "keys" in call:
        message.set_message_key(call["keys"])
    if "shardingKey" in call:
        message.set_sharding_key(call["shardingKey"])
    if "startDeliverTime" in call:
        message.set_start_deliver_time(call["startDeliverTime"])
    if "transCheckImmunityTime" in call:
        message.set_trans_check_immunity_time(call["transCheckImmunityTime"])
        producer = trans_producer_of(call)
    else:
        producer = client_of(call).get_producer(call["instanceId"], call["topic"])
    published = producer.publish_message(message)
    return {
        "messageId": published.message_id,
        "bodyMd5": published.message_body_md5,
        "receiptHandle": published.receipt_handle or None,
    }


def received(message: Message) -> Fields:
    return {
        "messageId": message.message_id,
        "body": message.message_body,
        "bodyMd5": message.message_body_md5,
        "receiptHandle": message.receipt_handle,
        "publishTime": message.publish_time,
        "firstConsumeTime": message.first_consume_time,
        "nextConsumeTime": message.next_consume_time,
        "consumedTimes": message.consumed_times,
        "tag": message.message_tag or None,
        "keys": message.properties.get("KEYS"),
        "shardingKey": message.properties.get("__SHARDINGKEY"),
        "properties": message.properties,
    }


def received_all(messages: list[Message]) -> list[Fields]:
    return [received(message) for message in messages]


def batch_and_wait(call: Fields) -> tuple[int, int]:
    return call.get("batch", 16), call.get("wait", -1)  # the SDK's own word for no wait


OPERATIONS: dict[str, Callable[[Fields], object]] = {
    "publish": publish,
    "consume": lambda call: received_all(consumer_of(call).consume_message(*batch_and_wait(call))),
    "consumeOrderly": lambda call: received_all(consumer_of(call).consume_message_orderly(*batch_and_wait(call))),
    "consumeHalf": lambda call: received_all(trans_producer_of(call).consume_half_message(*batch_and_wait(call))),
    "ack": lambda call: consumer_of(call).ack_message(call["handles"]),
    "commit": lambda call: trans_producer_of(call).commit(call["handle"]),
    "rollback": lambda call: trans_producer_of(call).rollback(call["handle"]),
}


def raised(error: Exception) -> Fields:
    sub_errors = getattr(error, "sub_errors", None)
    return {
        "type": type(error).__name__,
        "code": getattr(error, "type", None),
        "message": str(getattr(error, "message", error)),
        "requestId": getattr(error, "req_id", None),
        "items": sub_errors
        and [
            {"receiptHandle": item["ReceiptHandle"], "code": item["ErrorCode"], "message": item["ErrorMessage"]}
            for item in sub_errors
        ],
    }


def main() -> None:
    for line in sys.stdin:
        call = json.loads(line)
        operation = OPERATIONS[call["op"]]
        try:
            reply = {"returned": operation(call)}
        except Exception as error:  # noqa: BLE001  # whatever the SDK throws is what its user would see
            reply = {"raised": raised(error)}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
