"""Proof by processes: real bridges, a real Kafka, a receiver and a broker, and misfortunes between and upon them."""
