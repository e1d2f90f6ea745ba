"""The name of a topic says what the source delivers on it, so the source never has to be told."""

import json
from dataclasses import dataclass
from typing import Self

KINDS = ("plain", "json", "quot")
"""Text without a quote; JSON; the same JSON with every quote written as `&quot;`."""
ENDLESS = "endless"

_ITEM = {"sku": "B-0815", "quantity": 2, "price": 1.25, "unit": "kg"}


@dataclass(frozen=True, slots=True)
class Topic:
    """`<kind>-<bytes>-<pace>-<run>`, such as `json-1024-endless-7` or `json-1024-1000-8`."""

    kind: str
    """One of KINDS."""
    body_bytes: int
    """Of each body, once it is unescaped; JSON takes 60 at least."""
    pace: int | None
    """Messages a second; none at all with 0, and as many as are asked for without a number."""
    run: str
    """Keeps the counts of one measurement apart from another's."""

    @classmethod
    def parse(cls, name: str) -> Self:
        """Raises ValueError for a name of another shape."""
        kind, size, pace, run = name.split("-", 3)
        if kind not in KINDS:
            raise ValueError(f"{name!r} begins with none of {', '.join(KINDS)}")
        return cls(kind, int(size), None if pace == ENDLESS else int(pace), run)

    def __str__(self) -> str:
        """The name."""
        return f"{self.kind}-{self.body_bytes}-{ENDLESS if self.pace is None else self.pace}-{self.run}"

    def body(self, number: int) -> str:
        """A body, as it is before it is escaped. `number` makes it differ from others."""
        if self.kind == "plain":
            return f"{number:04} In the beginning was the message. ".ljust(self.body_bytes, "abcdefghijklmnop"[number % 16])
        empty = len(_order(number, items=0, note=""))
        items = (self.body_bytes - empty) // (len(_compact(_ITEM)) + 1)
        return _order(number, items=items, note="x" * (self.body_bytes - len(_order(number, items=items, note=""))))


def _order(number: int, *, items: int, note: str) -> str:
    return _compact({"orderId": f"A-{number:06}", "state": "paid", "items": [_ITEM] * items, "note": note})


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
