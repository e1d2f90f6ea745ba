"""A test that gives a secret out fails, whatever way it took, and the complaint names all but its value."""

import os
import re
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest

from secrecy.net import Net

LEAKS = Path(__file__).with_name("leaks.py")

CAUGHT = {
    "test_stdout": "Settings.password, in its captured stdout call",
    "test_what_the_test_reads": "Settings.password, on stderr",
    "test_logging": "Settings.password, in its captured log call",
    "test_structlog": "Settings.password, in the log",
    "test_error": "Settings.password, in a SinkDownError",
    "test_reason": "Credentials.access_key_secret, in the reason of a Refused",
    "test_url": "WebhookSettings.url, in its captured stdout call",
    "test_face": "Settings.password, at /",
    "test_child": "BRIDGE_WEBHOOK__HEADERS, on a child's stdout",
    "test_child_in_pieces": "BRIDGE_WEBHOOK__HEADERS, on a child's stderr",
}


def test_each_way_out_is_watched() -> None:
    options = ("-p", "no:randomly", "-p", "no:cacheprovider", "-q", "--tb=short", "--color=no")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(LEAKS)], cwd=LEAKS.parents[2],
        env={name: text for name, text in os.environ.items() if not name.startswith("PYTEST")},
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert dict(re.findall(r"::(\w+) gave a secret out:\n(.*)", run.stdout)) == CAUGHT, run.stdout
    assert f"{len(CAUGHT) + 1} passed, {len(CAUGHT)} errors" in run.stdout


VALUE = "p@ss wörd/+\"'&"


@pytest.mark.parametrize(
    "given_out",
    [
        "(p@ss wörd/+\"'&)",
        "a?key=p%40ss+w%C3%B6rd%2F%2B%22%27%26&b",
        "p@ss%20w%c3%b6rd/%2b%22'%26",
        r'{"key": "p@ss w\u00f6rd\/+\"' + "'" + '&"}',
        "p@ss w&#246;rd/+&quot;&#x27;&amp;",
        """'p@ss wörd/+"\\'&'""",
        *(b64encode(f"{user}:{VALUE}{more}".encode()).decode() for user in ("u", "us", "use") for more in ("", "x")),
    ],
)
def test_a_secret_is_recognised_behind_escapes_and_in_base64(given_out: str) -> None:
    net = Net()
    net.is_told(VALUE, lambda: "its name")
    net.look("there", "another text: u:p@ss wörd")
    net.look("here", given_out)
    assert net.leaks == {"its name, here"}


@pytest.mark.parametrize(
    ("value", "given_out", "leaks"),
    [
        ("redis://user:hidden-word@host:6379/0?key=another-word", "host:6379 /0 user", False),
        ("redis://user:hidden-word@host:6379/0?key=another-word", "hidden-word", True),
        ("redis://user:hidden-word@host:6379/0?key=another-word", "another-word", True),
        ("whsec_c2VjcmV0c2VjcmV0 whsec_b3RoZXJzb3RoZXJz", "b3RoZXJzb3RoZXJz", True),
        ("X-Key: hidden-word\nX-Other: another-word", "another-word", True),
        ("SECRET", "BRIDGE_ROCKETMQ__ACCESS_KEY_SECRET", False),
        ("SECRET", '{"access_key_secret": "SECRET"}', True),
        ("short", "short", False),
    ],
)
def test_what_is_searched_for_is_the_part_that_is_secret(value: str, given_out: str, *, leaks: bool) -> None:
    net = Net()
    net.is_told(value, lambda: "its name")
    net.look("here", given_out)
    assert bool(net.leaks) is leaks
