"""Every input of the corpus, with the oracles of the campaigns."""

from pathlib import Path

import pytest

from fuzz.targets import CORPUS, TARGETS

INPUTS = sorted(path.relative_to(CORPUS).as_posix() for path in CORPUS.rglob("*") if path.is_file())


def test_every_target_has_inputs_and_every_input_a_target() -> None:
    assert {Path(name).parts[0] for name in INPUTS} == TARGETS.keys()


@pytest.mark.parametrize("name", INPUTS)
def test_an_input_of_the_corpus_is_no_finding(name: str) -> None:
    TARGETS[Path(name).parts[0]].run((CORPUS / name).read_bytes())
