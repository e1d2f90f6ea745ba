"""The hash is Java's: its own examples, and everything else as another implementation has it."""

import pytest
from aiokafka.partitioner import murmur2 as aiokafkas_murmur2
from hypothesis import given
from hypothesis import strategies as st

from bridge.sinks.kafka.murmur import murmur2


@pytest.mark.parametrize(
    ("key", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_examples_of_the_java_client_hash_to_what_they_do_there(key: bytes, signed: int) -> None:
    """They are those of `UtilsTest.testMurmur2` in Apache Kafka, where the hash is a signed number."""
    assert murmur2(key) == signed % 2**32


@given(st.binary(max_size=70))
def test_any_key_hashes_as_in_aiokafka(key: bytes) -> None:
    assert murmur2(key) == aiokafkas_murmur2(key)
