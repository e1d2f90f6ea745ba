"""The largest body that is legal is read in about a second, whatever it is full of: reading it holds up everything else."""

import time

import pytest

from bridge.rocketmq.codec import read_poll
from bridge.rocketmq.message import MAX_BODY_BYTES
from rocketmq.documents import batch, element, expected

SECONDS = 5.0
"""Of processor time: a few times what is needed, for a machine that is busy."""


@pytest.mark.parametrize(
    ("xml", "character"),
    [
        ("&#0;", "\0"),  # a zeroed block of memory
        ("&quot;", '"'),
    ],
)
def test_the_largest_legal_body_is_read_in_bounded_time(xml: str, character: str) -> None:
    answer = batch(element(1, xml * (MAX_BODY_BYTES - 1) + "&#1;"), element(2))

    started = time.process_time()
    first, second = read_poll(200, answer)

    assert time.process_time() - started < SECONDS
    assert first == expected(1, character * (MAX_BODY_BYTES - 1) + "\x01")
    assert second == expected(2)
