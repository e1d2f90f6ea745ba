"""What Prometheus would have stored of some pods of a bridge: every sample of /metrics, scrape by scrape.

A scrape is told as a minute, so that what the alerts wait for comes in a short time. Kept as promtool's unit tests want it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import yaml
from prometheus_client.parser import text_string_to_metric_families

RECORDINGS = Path(__file__).with_name("recordings")
NAMESPACE, RELEASE = "prod", "orders-rocketmq-bridge"

_MISSING, _GONE = "_", "stale"
"""promtool's words for no sample, and for the mark that Prometheus sets when a series ends."""


@dataclass
class Recording:
    """Several phases of one run, in minutes: until `trouble` begins, until it is `mended`, and what came after."""

    series: dict[str, list[str]] = field(default_factory=dict)
    """One value for each minute, by the series' name and labels."""
    minutes: int = 0
    trouble: int = 0
    mended: int = 0

    def add(self, scrapes: Mapping[str, str | None]) -> None:
        """A minute: the text of each pod, None for one that doesn't answer."""
        for pod, text in scrapes.items():
            for family in text_string_to_metric_families(text or ""):
                if family.type == "histogram":  # no alert looks at one, and they fill the files
                    continue
                for sample in family.samples:
                    name = _series(sample.name, {**sample.labels, **target(pod)})
                    self.series.setdefault(name, [_MISSING] * self.minutes).append(f"{sample.value:.12g}")
        self.minutes += 1
        for values in self.series.values():
            if len(values) < self.minutes:
                values.append(_MISSING if values[-1] in (_MISSING, _GONE) else _GONE)

    def save(self, name: str) -> None:
        series = [{"series": series, "values": _short(values)} for series, values in sorted(self.series.items())]
        kept = {"minutes": self.minutes, "trouble": self.trouble, "mended": self.mended, "input_series": series}
        text = yaml.dump(kept, Dumper=yaml.CSafeDumper, sort_keys=False, width=10_000)
        (RECORDINGS / f"{name}.yaml").write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Recorded:
    """A recording that is read again."""

    minutes: int
    trouble: int
    mended: int
    input_series: list[dict[str, str]]

    @classmethod
    def load(cls, name: str) -> Self:
        kept: dict[str, Any] = yaml.load((RECORDINGS / f"{name}.yaml").read_bytes(), Loader=yaml.CSafeLoader)
        return cls(**kept)


def target(pod: str) -> dict[str, str]:
    """The labels that Prometheus gives what it scrapes by a PodMonitor."""
    return {
        "namespace": NAMESPACE,
        "job": f"{NAMESPACE}/{RELEASE}",
        "pod": f"{RELEASE}-{pod}",
        "instance": f"{pod}:8080",
        "container": "bridge",
        "endpoint": "http",
    }


def _series(name: str, labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{pairs}}}"


def _short(values: list[str]) -> str:
    """As promtool abbreviates it: `2x3` is 2 and three times more, but `_x3` is three missing ones."""
    words = []
    for value, run in groupby(values):
        length = len(list(run))
        repeats = length if value == _MISSING else length - 1
        words.append(f"{value}x{repeats}" if length > 1 else value)
    return " ".join(words)
