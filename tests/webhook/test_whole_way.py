"""From the emulator through the command `bridge run` to a receiver."""

import json
from collections import Counter

from standardwebhooks.webhooks import Webhook

from acceptance.processes import GROUP, TOPIC, bridge, environment, get, until
from bridge.emulator.server import Emulator
from webhook.receiver import SECRET, Receiver, answers
from webhook.token_server import CLIENT, CLIENT_SECRET, authorizing


def acked(emulator: Emulator) -> int:
    return emulator.broker.book(emulator.now(), TOPIC, GROUP).acked


def where(url: str, **others: str) -> dict[str, str]:
    settings = {"SINK": "webhook", "ROCKETMQ__WAIT_SECONDS": "2", "WEBHOOK__URL": url}
    return settings | {f"WEBHOOK__{name.upper()}": text for name, text in others.items()}


async def test_messages_arrive_signed_and_once_each(receiver: Receiver) -> None:
    async with Emulator() as emulator:
        published = {emulator.publish(TOPIC, f"message {number}").message_id for number in range(2_000)}
        settings = where(receiver.url, mode="batch", signing_secret=SECRET, headers="X-Key: k")
        async with bridge("run", env=environment(emulator.url, **settings)) as running:
            await until(lambda: acked(emulator) == len(published), seconds=60)
            running.process.terminate()
            assert await running.end() == 0
    found: Counter[str] = Counter()
    for request in receiver.requests:
        events = Webhook(SECRET).verify(request.body, dict(request.headers))
        assert request.headers["x-key"] == "k"
        found.update(event["id"] for event in events)
    assert found.keys() == published
    assert {*found.values()} == {1}


async def test_401_to_everything_is_an_outage_that_refuses_nothing_and_costs_no_message(receiver: Receiver) -> None:
    receiver.answer = answers(401)
    async with Emulator() as emulator:
        published = {emulator.publish(TOPIC, f"message {number}").message_id for number in range(200)}
        async with bridge("run", env=environment(emulator.url, **where(receiver.url))) as running:
            health = f"http://127.0.0.1:{await running.port()}/readyz"

            async def is_down() -> bool:
                status, text = await get(health)
                return status == 503 and "answers 401 Unauthorized; check who the bridge is to it" in text

            await until(is_down)
            tried = {json.loads(request.body)["id"] for request in receiver.requests}
            assert len(tried) <= 8 * 16  # what all pollers had polled before the first answer came
            receiver.answer = answers(204)
            await until(lambda: acked(emulator) == len(published), seconds=60)
            running.process.terminate()
            assert await running.end() == 0
        assert not [line for line in running.errors if "refused" in line]
    assert {json.loads(request.body)["id"] for request in receiver.requests} == published


async def test_tokens_of_a_second_lose_no_message() -> None:
    async with Emulator() as emulator, authorizing(life=1.0, expires_in=1) as server:
        client = {"auth_token_url": server.url, "auth_client_id": CLIENT, "auth_client_secret": CLIENT_SECRET}
        async with bridge("run", env=environment(emulator.url, **where(server.receiver.url, **client))) as running:
            published: set[str] = set()
            while server.issued < 4:
                published.update(emulator.publish(TOPIC, f"message {number}").message_id for number in range(20))
                await until(lambda: acked(emulator) == len(published), seconds=60)
            running.process.terminate()
            assert await running.end() == 0
    assert Counter(server.receiver.ids).keys() == published
