from kafka.conftest import kafka, kafka_of_this_worker
from ledger.conftest import redis, redis_of_this_worker

__all__ = ["kafka", "kafka_of_this_worker", "redis", "redis_of_this_worker"]
