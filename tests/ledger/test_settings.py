"""`BRIDGE_LEDGER__REDIS_URL`: what is taken, what is a mistake, and that no password is ever shown."""

import sys
from pathlib import Path

import pytest

from bridge.errors import FixSettingsError, MissingExtraError
from bridge.loading import Loaded, load
from bridge.service import Service
from bridge.settings import RunSettings

REQUIRED = {
    "BRIDGE_ROCKETMQ__ENDPOINT": "http://127.0.0.1:1",
    "BRIDGE_ROCKETMQ__TOPIC": "orders",
    "BRIDGE_ROCKETMQ__GROUP_ID": "GID_orders",
    "BRIDGE_ROCKETMQ__ACCESS_KEY_ID": "AKID",
    "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET": "SECRET",
}


def loaded(folder: Path, url: str) -> Loaded[RunSettings]:
    return load(RunSettings, environ={**REQUIRED, "BRIDGE_LEDGER__REDIS_URL": url}, folder=folder)


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1",
        "redis://redis:6379/3",
        "rediss://user:p%2Fass@redis.example:6380/0?ssl_ca_certs=/etc/ca.pem",
        "redis://:only-a-password@[::1]:6379",
        "unix:///run/redis.sock?db=1",
        "unix://user:password@/run/redis.sock",
    ],
)
async def test_these_urls_are_taken_and_their_ledger_is_one_of_the_components(url: str, tmp_path: Path) -> None:
    service = Service(loaded(tmp_path, url).settings)
    assert [component.name for component in service.facts.components][-1] == "ledger"


@pytest.mark.parametrize(
    "url",
    [
        "http://user:s3cret@redis",
        "user:s3cret@redis:6379",
        "redis://",
        "redis:///0",
        "unix://",
        "redis://user:s3cret/and/more@redis",
        "redis://user:pa#s3cret@redis",
        "redis://user:s3cret@redis:port",
        "redis://user:s3cret@[redis",
    ],
)
def test_these_are_mistakes_and_no_part_of_them_is_shown(url: str, tmp_path: Path) -> None:
    with pytest.raises(FixSettingsError) as raised:
        loaded(tmp_path, url)
    assert "BRIDGE_LEDGER__REDIS_URL: what is given, given by the environment" in str(raised.value)
    assert "s3cret" not in str(raised.value)
    assert "'" not in str(raised.value)


async def test_without_redis_client_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "bridge.delivery.redis_store", raising=False)
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    with pytest.raises(MissingExtraError, match=r'pip install "rocketmq-bridge\[redis\]"'):
        Service(loaded(tmp_path, "redis://127.0.0.1").settings)
