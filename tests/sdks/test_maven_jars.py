import hashlib
from pathlib import Path

import pytest

import maven_jars
from maven_jars import Jar, JarUnavailableError, fetch_jars, read_jar_list

CONTENT = b"the archive"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
COORDINATES = "org.example:example-core:1.2-3"


@pytest.fixture
def listing(tmp_path: Path) -> Path:
    path = tmp_path / "jars.txt"
    path.write_text(f"# why\n\n{COORDINATES} sha256:{SHA256}\n")
    return path


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What the registry gives, in turn, instead of the network."""
    answers: list[bytes] = []

    def download(_jar: Jar, path: Path) -> None:
        path.write_bytes(answers.pop(0))

    monkeypatch.setattr(maven_jars, "_download", download)
    return answers


def test_a_jar_is_fetched_once_and_has_its_usual_name(listing: Path, registry: list[bytes], tmp_path: Path) -> None:
    registry.append(CONTENT)
    expected = [tmp_path / "jars" / "example-core-1.2-3.jar"]
    assert fetch_jars(listing, tmp_path / "jars") == expected
    assert fetch_jars(listing, tmp_path / "jars") == expected
    assert expected[0].read_bytes() == CONTENT
    assert list(expected[0].parent.iterdir()) == expected


def test_a_damaged_jar_is_fetched_anew(listing: Path, registry: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "example-core-1.2-3.jar").write_bytes(b"half of")
    registry.append(CONTENT)
    assert [jar.read_bytes() for jar in fetch_jars(listing, tmp_path)] == [CONTENT]


def test_another_jar_than_the_listed_one_is_refused_and_not_kept(listing: Path, registry: list[bytes], tmp_path: Path) -> None:
    registry.append(b"something else")
    with pytest.raises(JarUnavailableError, match=f"{COORDINATES}: its SHA-256 is "):
        fetch_jars(listing, tmp_path / "jars")
    assert list((tmp_path / "jars").iterdir()) == []


@pytest.mark.parametrize(
    "line", ["org.example:example:1", "org.example:example sha256:" + SHA256, f"a:b:1 sha256:{SHA256[1:]}"]
)
def test_a_line_without_version_or_checksum_is_a_mistake(line: str, tmp_path: Path) -> None:
    path = tmp_path / "jars.txt"
    path.write_text(line)
    with pytest.raises(ValueError, match=r"jars\.txt, line 1: "):
        read_jar_list(path)
