from collections.abc import Iterator

import pytest

from ledger.server import RedisServer, running_redis


@pytest.fixture(scope="session")
def redis_of_this_worker() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture
def redis(redis_of_this_worker: RedisServer) -> RedisServer:
    """Running and empty. Each worker has one server; whoever kills it or freezes it leaves it running."""
    with redis_of_this_worker.client() as client:
        client.flushall()
        client.config_resetstat()
    return redis_of_this_worker
