"""What there is to ask of a server that tells of itself, whichever it is: a port."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Protocol

from kapla.status.view import View

__all__ = ["Subject", "Told"]


class Told(Enum):
    """What somebody may be told, decided once by who asks."""

    NUMBERS = "numbers"
    """How much there is and goes on."""
    EVERYTHING = "everything"
    """Names too: of pins, peers, users, and items."""


class Subject(Protocol):
    """A server, as those see it who tell of it. `facts` and `metrics` may raise ErisError."""

    async def facts(self, told: Told) -> Mapping[str, Any]:
        """All facts, for JSON."""
        ...

    async def metrics(self) -> bytes:
        """The metrics, as a scraper is answered."""
        ...

    async def trouble(self) -> str | None:
        """Why it does not do its work; None while it does."""
        ...

    def view(self, facts: Mapping[str, Any], before: Mapping[str, Any] | None) -> View:
        """What is shown of these facts; `before`: of those of an earlier moment."""
        ...
