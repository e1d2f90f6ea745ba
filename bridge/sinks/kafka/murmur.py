"""The hash by which Kafka's clients choose the partition of a key: MurmurHash2, as in `Utils.murmur2` of the Java client.

aiokafka has it too, byte by byte. A word at a time takes half as long, and is still a large part of what a record costs.
"""

from struct import unpack_from

_SEED, _M, _32_BITS = 0x9747B28C, 0x5BD1E995, 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """The hash of a key, 0 to 2**32 - 1."""
    length = len(key)
    hashed = _SEED ^ length
    for word in unpack_from(f"<{length // 4}I", key):
        mixed = word * _M & _32_BITS
        hashed = (hashed * _M ^ (mixed ^ mixed >> 24) * _M) & _32_BITS
    if rest := length % 4:
        hashed = (hashed ^ int.from_bytes(key[-rest:], "little")) * _M & _32_BITS
    hashed = (hashed ^ hashed >> 13) * _M & _32_BITS
    return hashed ^ hashed >> 15
