import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[1] / "docs"


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES = _generator().PAGES


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_what_the_code_says(page: str) -> None:
    """If it isn't: `make reference`."""
    assert (DOCS / page).read_text(encoding="utf-8") == PAGES[page]()


GUARANTEES = (DOCS / "guarantees.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("reference", sorted(set(re.findall(r"`((?:bridge|tests)/[^`]+)`", GUARANTEES))))
def test_the_guarantees_point_at_what_is_there(reference: str) -> None:
    path, _, name = reference.partition("::")
    text = (DOCS.parent / path).read_text(encoding="utf-8")
    assert re.search(rf"^ *(async )?(def|class) {name}\b" if name else "", text, re.MULTILINE)


def test_the_guarantees_name_invariants_that_are_watched() -> None:
    invariants = DOCS.parent / "tests/simulation/invariants"
    watched = {name for path in invariants.glob("*.py") for name in re.findall(r"^class (\w+)", path.read_text(), re.MULTILINE)}
    assert set(re.findall(r"`([A-Z][A-Za-z]+)`", GUARANTEES)) - {"Idempotency"} <= watched
