"""What a check finds. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

__all__ = ["Finding", "Level", "ok", "trouble", "warning", "worst"]


class Level(IntEnum):
    """How bad it is."""

    OK = 0
    WARNING = 1
    """It works, and may not for long."""
    TROUBLE = 2
    """It does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One verdict: what was looked at, one sentence of it, and the command or act that mends it."""

    level: Level
    check: str
    text: str
    mend: str = ""


def ok(check: str, text: str) -> Finding:
    """All is well with this."""
    return Finding(Level.OK, check, text)


def warning(check: str, text: str, mend: str) -> Finding:
    """It works, and may not for long."""
    return Finding(Level.WARNING, check, text, mend)


def trouble(check: str, text: str, mend: str) -> Finding:
    """It does not work."""
    return Finding(Level.TROUBLE, check, text, mend)


def worst(findings: Iterable[Finding]) -> Level:
    """The worst of all; OK of none."""
    return max((one.level for one in findings), default=Level.OK)
