"""A local ApsaraMQ for RocketMQ (HTTP protocol) that the official SDKs use unmodified."""
