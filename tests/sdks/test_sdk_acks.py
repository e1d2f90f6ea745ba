from typing import Any

import pytest

from bridge.emulator.server import Emulator
from sdks.clock import Clock
from sdks.drivers import Driver, SdkError

pytestmark = pytest.mark.asyncio(loop_scope="session")

GARBAGE = "adfadfadf"


async def delivered(driver: Driver, count: int) -> list[str]:
    """The receipt handles of so many new messages."""
    for number in range(count):
        await driver.call("publish", body=f"message {number}")
    handles: list[str] = []
    while len(handles) < count:
        messages = await driver.poll(batch=16, wait=5)
        assert messages, "fewer came than were published"
        handles += [message["receiptHandle"] for message in messages]
    return handles


async def test_point_29_sixteen_handles_are_acked_at_once_and_none_twice(driver: Driver) -> None:
    handles = await delivered(driver, 16)
    assert await driver.settle(handles=handles) == {}
    assert await driver.settle(handles=[handles[7]]) == {handles[7]: "MessageNotExist"}


async def test_point_29_more_than_sixteen_handles_are_refused_whole(driver: Driver) -> None:
    handles = await delivered(driver, 17)
    with pytest.raises(SdkError) as caught:
        await driver.call("ack", handles=handles)
    assert caught.value.code == "InvalidArgument"
    assert await driver.settle(handles=handles[:16]) == {}


async def test_point_30_python_lists_bad_handles_as_sub_errors(python: Driver) -> None:
    [handle] = await delivered(python, 1)
    with pytest.raises(SdkError) as caught:
        await python.call("ack", handles=[handle, GARBAGE])
    assert (caught.value.type, caught.value.code) == ("MQServerException", "ReceiptHandleError")
    assert handles_and_codes(caught.value.items) == [(GARBAGE, "ReceiptHandleError")]
    assert await python.settle(handles=[handle]) == {handle: "MessageNotExist"}  # the good one had been consumed


async def test_point_30_node_returns_bad_handles_with_code_404(node: Driver) -> None:
    [handle] = await delivered(node, 1)
    answer = await node.call("ack", handles=[handle, GARBAGE])
    assert answer["code"] == 404
    assert handles_and_codes(answer["items"]) == [(GARBAGE, "ReceiptHandleError")]
    assert await node.settle(handles=[handle]) == {handle: "MessageNotExist"}


async def test_point_30_java_throws_bad_handles_in_an_ack_message_exception(java: Driver) -> None:
    [handle] = await delivered(java, 1)
    with pytest.raises(SdkError) as caught:
        await java.call("ack", handles=[handle, GARBAGE])
    assert caught.value.type == "AckMessageException"
    assert handles_and_codes(caught.value.items) == [(GARBAGE, "ReceiptHandleError")]
    assert await java.settle(handles=[handle]) == {handle: "MessageNotExist"}


async def test_point_30_every_item_has_a_message_for_people(driver: Driver) -> None:
    try:
        items = (await driver.call("ack", handles=[GARBAGE]))["items"]
    except SdkError as error:
        items = error.items
    assert [item["message"] for item in items] == ["The receipt handle you provide is not valid."]


async def test_point_31_a_late_handle_is_told_from_garbage(driver: Driver, clocked_emulator: Emulator, clock: Clock) -> None:
    late = driver.using(endpoint=clocked_emulator.url)
    [handle] = await delivered(late, 1)
    clock.advance(301)
    assert await late.settle(handles=[handle, GARBAGE]) == {handle: "MessageNotExist", GARBAGE: "ReceiptHandleError"}
    [again] = await late.poll()
    assert await late.settle(handles=[handle]) == {handle: "MessageNotExist"}
    assert await late.settle(handles=[again["receiptHandle"]]) == {}


async def test_point_31_a_handle_of_another_group_is_garbage(driver: Driver, group: str) -> None:
    [handle] = await delivered(driver, 1)
    assert await driver.using(group=f"{group}_2").settle(handles=[handle]) == {handle: "ReceiptHandleError"}
    assert await driver.settle(handles=[handle]) == {}


async def test_what_one_sdk_consumes_another_may_ack(publisher: Driver, driver: Driver, group: str) -> None:
    handles = await delivered(driver, 3)
    assert await publisher.using(group=group).settle(handles=handles) == {}


async def test_point_32_an_ack_of_nothing_misses_its_handles(python: Driver, node: Driver) -> None:
    """Java's refuses it by itself."""
    for driver in (python, node):
        with pytest.raises(SdkError) as caught:
            await driver.call("ack", handles=[])
        assert caught.value.code == "MissingReceiptHandle"


def handles_and_codes(items: list[dict[str, Any]] | None) -> list[tuple[str, str]]:
    return [(item["receiptHandle"], item["code"]) for item in items or []]
