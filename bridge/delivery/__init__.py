"""The promises of design.md 2: it knows the seams to source and sinks, and neither RocketMQ nor Kafka."""
