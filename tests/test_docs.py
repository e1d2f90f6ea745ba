import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_the_settings_page_is_what_the_code_says() -> None:
    """If it isn't: `make reference`."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec
    assert spec.loader
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert (DOCS / "settings.md").read_text(encoding="utf-8") == generate.settings()
