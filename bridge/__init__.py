"""rocketmq-bridge: messages out of ApsaraMQ for RocketMQ over HTTP, into any sink, acked only when confirmed."""

__version__ = "0.1.0"
