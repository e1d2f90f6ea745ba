"""Writes the tables of the chart's README.md anew, from the comments of its values.yaml."""  # noqa: INP001 - a script, and no package

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parent / "rocketmq-bridge"
README, VALUES = CHART / "README.md", CHART / "values.yaml"
TITLE = "## Values\n"
"""What follows it in README.md is written here; what stands before it, by people."""


@dataclass(frozen=True, slots=True)
class Key:
    """One of the chart's values, as values.yaml has it."""

    path: tuple[str, ...]
    default: Any
    meaning: str
    """The comment above it."""
    heading: str
    """The last `## …` above it."""


def documented() -> Iterator[Key]:
    """Every value that has a comment, in order. Raises ValueError for one without, unless all that it holds have theirs."""
    text = VALUES.read_text(encoding="utf-8")
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    yield from _keys(root, text.splitlines(), ())


def _keys(node: yaml.MappingNode, lines: list[str], above: tuple[str, ...]) -> Iterator[Key]:
    for key, value in node.value:
        path = (*above, key.value)
        line = key.start_mark.line
        if comment := _comment_above(lines, line):
            default = yaml.SafeLoader("").construct_document(value)
            heading = next(text for text in reversed(lines[:line]) if text.startswith("## "))
            yield Key(path, default, comment, heading.removeprefix("## "))
        elif isinstance(value, yaml.MappingNode) and value.value:
            yield from _keys(value, lines, path)
        else:
            raise ValueError(f"{VALUES.name}, line {line + 1}: {'.'.join(path)} has no comment that says what it means")


def _comment_above(lines: list[str], line: int) -> str:
    first = line
    while lines[first - 1].lstrip().startswith("# "):
        first -= 1
    return " ".join(text.strip().removeprefix("# ") for text in lines[first:line])


def tables() -> str:
    """A table of values for each heading of values.yaml."""
    parts = []
    heading = ""
    for key in documented():
        if key.heading != heading:
            heading = key.heading
            parts.append(f"\n### {heading}\n\n| value | default | meaning |\n|---|---|---|\n")
        default = "" if key.default is None else f"`{json.dumps(key.default, ensure_ascii=False)}`"
        meaning = key.meaning.replace("|", "\\|").replace("<", "&lt;")
        parts.append(f"| `{'.'.join(key.path)}` | {default} | {meaning} |\n")
    return "".join(parts)


def readme() -> str:
    """README.md as it should be."""
    prose, _, _ = README.read_text(encoding="utf-8").partition(TITLE)
    return prose + TITLE + tables()


if __name__ == "__main__":
    README.write_text(readme(), encoding="utf-8")
