"""Metrics as Prometheus reads them: the text format, version 0.0.4. Pure.

Source: prometheus.io, "Exposition formats".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

__all__ = ["CONTENT_TYPE", "Metric", "Sample", "metrics_text"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_F = TypeVar("_F")

Sample = tuple[Mapping[str, str], float | int | None]
"""Labels, and a value in base units; None: there is none now, and nothing is told."""


@dataclass(frozen=True, slots=True)
class Metric(Generic[_F]):
    """One metric, with all its samples. `meaning` is a sentence without its full stop."""

    name: str
    kind: Literal["counter", "gauge"]
    meaning: str
    samples: Callable[[_F], Iterable[Sample]]


def metrics_text(metrics: Sequence[Metric[_F]], facts: _F) -> bytes:
    """All of them, as a scraper is answered."""
    lines: list[str] = []
    for metric in metrics:
        samples = [_line(metric.name, *one) for one in metric.samples(facts) if one[1] is not None]
        if samples:
            lines.append(f"# HELP {metric.name} {_escaped_help(metric.meaning)}")
            lines.append(f"# TYPE {metric.name} {metric.kind}")
            lines += samples
    return "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")


def _line(name: str, labels: Mapping[str, str], value: float | int | None) -> str:
    pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{pairs}}} {value}" if pairs else f"{name} {value}"


def _escaped_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _escaped(text: str) -> str:
    return _escaped_help(text).replace('"', r"\"")
