from kafka.conftest import kafka, kafka_of_this_worker

__all__ = ["kafka", "kafka_of_this_worker"]
