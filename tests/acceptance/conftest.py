from kafka.conftest import kafka

__all__ = ["kafka"]
