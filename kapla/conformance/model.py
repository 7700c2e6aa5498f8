"""What a check is, and how it can end. Pure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from kapla.conformance.stage import Stage

__all__ = [
    "GROUPS",
    "Absent",
    "Check",
    "Failed",
    "Level",
    "Result",
    "Seen",
    "Skipped",
    "Verdict",
    "format_code",
    "words",
]

GROUPS: Final = (
    "greeting",
    "signals",
    "blocks",
    "references",
    "contents",
    "requests",
    "pieces",
    "flight",
    "hostile",
    "both-ways",
    "extensions",
)
"""The groups of checks, in their order; here, so that their names are known without the checks."""

_LONGEST_TOLD: Final = 80


class Level(StrEnum):
    """How much it counts: the words of RFC 2119, and what is an extension of Kapla's own."""

    MUST = "must"
    SHOULD = "should"
    MAY = "may"
    OWN = "kapla"


class Verdict(StrEnum):
    """How a check ended."""

    PASS = "pass"
    FAIL = "fail"
    SKIPPED = "skipped"
    """It could not be tried here."""
    ABSENT = "absent"
    """The store does not have what nobody needs to have."""


class Failed(Exception):
    """The store did something else; the text says what was seen."""


class Skipped(Exception):
    """The check cannot be tried here; the text says why."""


class Absent(Exception):
    """The store does not have this, and need not; the text says how that shows."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a store does.

    `says` is what is asked for, in one sentence, and `source` where that is written. `run` returns
    what was seen, in a few words, or raises `Failed`, `Skipped` or `Absent`.
    """

    name: str
    level: Level
    says: str
    source: str
    run: Callable[[Stage], Awaitable[str]]
    writes: bool = False
    """Whether it puts blocks, so that it is skipped where none may be put."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A line of a transcript: who sent it, its first bytes, and how many there were."""

    sent: bool
    head: bytes
    length: int

    def __str__(self) -> str:
        more = " …" if self.length > len(self.head) else ""
        arrow = "->" if self.sent else "<-"
        return f"{arrow} {self.head.hex(' ')}{more} ({self.length} bytes)"


@dataclass(frozen=True, slots=True)
class Result:
    """How one check of a group ended, with what was seen and the bytes both ways."""

    group: str
    check: Check
    verdict: Verdict
    seen: str
    transcript: tuple[Seen, ...] = ()


def format_code(code: int) -> str:
    """A code as people write it: 4.04."""
    return f"{code >> 5}.{code & 31:02d}"


def words(payload: bytes) -> str:
    """What a diagnostic payload says, as it can be shown behind a code; nothing if it is empty."""
    text = payload[:_LONGEST_TOLD].decode("utf-8", "replace")
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)
    return f" ({shown})" if shown else ""
