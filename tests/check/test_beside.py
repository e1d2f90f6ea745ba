"""The ledger's Redis and the management API."""

import re
from pathlib import Path

from bridge.emulator.server import Emulator
from check.looking import GROUP, TOPIC, closed_port, looked, statuses
from ledger.server import RedisServer

GROUP_ALONE = {"group": "unknown"}


# ---- the ledger ------------------------------------------------------------------------------------------------------


async def test_a_redis_is_read_and_written_and_holds_nothing_afterwards(
    emulator: Emulator, tmp_path: Path, redis: RedisServer
) -> None:
    found = await looked(emulator, tmp_path, ledger__redis_url=redis.url)
    assert statuses(found) == GROUP_ALONE
    assert redis.keys() == {}


async def test_a_redis_that_may_only_be_read(emulator: Emulator, tmp_path: Path, redis: RedisServer) -> None:
    with redis.client() as client:
        client.acl_setuser(
            "reader", enabled=True, passwords=["+hush"], keys=["*"], commands=["+@read", "+@connection", "+multi", "+exec"]
        )
    url = redis.url.replace("redis://", "redis://reader:hush@")
    found = await looked(emulator, tmp_path, ledger__redis_url=url)
    assert statuses(found) == {**GROUP_ALONE, "ledger": "wrong"}
    assert re.search("no permissions.*see to the Redis of BRIDGE_LEDGER__REDIS_URL", found["ledger"].text)
    assert "hush" not in str(found)


async def test_a_redis_that_is_gone_and_a_url_that_cannot_be_used(emulator: Emulator, tmp_path: Path) -> None:
    gone = await looked(emulator, tmp_path, ledger__redis_url=f"redis://127.0.0.1:{closed_port()}")
    odd = await looked(emulator, tmp_path, ledger__redis_url="redis://127.0.0.1:1?db=none")
    assert statuses(gone) == statuses(odd) == {**GROUP_ALONE, "ledger": "wrong"}
    assert re.search("(refused|Connect call failed).*see to the Redis of BRIDGE_LEDGER__REDIS_URL", gone["ledger"].text)
    assert "BRIDGE_LEDGER__REDIS_URL can't be used" in odd["ledger"].text


# ---- the management API ----------------------------------------------------------------------------------------------


async def managed(emulator: Emulator, folder: Path, **changes: str) -> tuple[dict[str, str], str]:
    given = {"management__enabled": "true", "management__endpoint": emulator.url, **changes}
    found = await looked(emulator, folder, **given)
    return statuses(found), found["management"].text


async def test_a_group_that_has_never_polled_is_no_mistake_before_the_first_deploy(emulator: Emulator, tmp_path: Path) -> None:
    wrong, text = await managed(emulator, tmp_path)
    assert wrong == GROUP_ALONE
    assert f"nobody has consumed as {GROUP} so far" in text


async def test_a_group_with_a_backlog(emulator: Emulator, tmp_path: Path) -> None:
    emulator.faults.management_answers = {"OnsConsumerAccumulate": {"Data": {"TotalDiff": 4200}}}
    emulator.publish(TOPIC, "message")
    emulator.broker.consume(emulator.now(), TOPIC, GROUP)
    wrong, text = await managed(emulator, tmp_path)
    assert wrong == GROUP_ALONE
    assert "0 consumers online, and 4,200 messages" in text


async def test_a_missing_permission_there(emulator: Emulator, tmp_path: Path) -> None:
    emulator.faults.management_error = "NoPermission"
    wrong, text = await managed(emulator, tmp_path)
    assert wrong == {**GROUP_ALONE, "management": "wrong"}
    assert re.search("NoPermission.*allow the RAM action mq:QueryConsumerConnection", text)


async def test_an_endpoint_that_is_not_there_and_none_that_is_known(emulator: Emulator, tmp_path: Path) -> None:
    gone, text = await managed(emulator, tmp_path, management__endpoint=f"http://127.0.0.1:{closed_port()}")
    assert gone == {**GROUP_ALONE, "management": "wrong"}
    assert re.search("no answer from.*check BRIDGE_MANAGEMENT__ENDPOINT and __REGION", text)

    nowhere, text = await managed(emulator, tmp_path, management__endpoint="")
    assert nowhere == gone
    assert "BRIDGE_MANAGEMENT__REGION is not set" in text
