"""XML as somebody else's parser reads it: expat, where the codec has libxml2."""

from dataclasses import dataclass, field
from xml.parsers import expat


@dataclass(slots=True)
class Element:
    """An element by its local name; `text` is all of its own, up to its first child."""

    name: str
    text: str = ""
    children: "list[Element]" = field(default_factory=list)

    def texts(self) -> dict[str, str]:
        """The text of each child, the last where there are several of a name."""
        return {child.name: child.text for child in self.children}


class _DoctypeError(Exception):
    """There is a document type."""


def parsed(document: bytes) -> Element | None:
    """The root; None for what is no XML, or has a document type."""
    reader = expat.ParserCreate(namespace_separator="}")
    reader.buffer_text = True
    top = Element("")
    open_elements = [top]

    def start(name: str, _: dict[str, str]) -> None:
        element = Element(name.rpartition("}")[2])
        open_elements[-1].children.append(element)
        open_elements.append(element)

    def end(_: str) -> None:
        open_elements.pop()

    def text(piece: str) -> None:
        if not open_elements[-1].children:
            open_elements[-1].text += piece

    def refuse(*_: object) -> None:
        raise _DoctypeError

    reader.StartElementHandler = start
    reader.EndElementHandler = end
    reader.CharacterDataHandler = text
    reader.StartDoctypeDeclHandler = refuse
    try:
        reader.Parse(document, True)  # noqa: FBT003 - expat's own signature
    except (expat.ExpatError, _DoctypeError, LookupError, ValueError):
        return None
    return top.children[0]
