"""Everything that knows ApsaraMQ for RocketMQ's HTTP protocol, and nothing that knows a sink."""
