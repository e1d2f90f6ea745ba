from kafka.conftest import kafka
from ledger.conftest import redis, redis_of_this_worker

__all__ = ["kafka", "redis", "redis_of_this_worker"]
