"""How a database is opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Self

from kapla.database_url import parse_database_url

__all__ = ["PostgresSettings"]


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """How the store in a database is opened.

    `url`: as libpq has it, perhaps with a password. `synchronous`: both settings wait until a
    commit is on disk. `connections`: how many write, and how many read.
    """

    url: str = field(repr=False)
    synchronous: Literal["normal", "full"] = "normal"
    max_size: int | None = None
    when_full: Literal["evict", "refuse"] = "evict"
    max_pinned: int | None = None
    """Bytes that the pins of one user may hold. None: half of `max_size`, if there is that."""

    lend_cache: bool = True
    """Whether blocks that no pin has may be lent."""

    connections: int = 2

    @classmethod
    def of(
        cls,
        url: str,
        *,
        synchronous: Literal["normal", "full"] = "normal",
        max_size: int | None = None,
        when_full: Literal["evict", "refuse"] = "evict",
        max_pinned: int | None = None,
        lend_cache: bool = True,
    ) -> Self:
        """As the daemon's settings have it."""
        return cls(url, synchronous, max_size, when_full, max_pinned, lend_cache)

    @property
    def scrub_rate(self) -> int:
        """None of the blocks are read in the background."""
        return 0

    @property
    def pinned_quota(self) -> int | None:
        """Bytes that the pins of one user may hold together, or None: any number."""
        if self.max_pinned is None and self.max_size is not None:
            return self.max_size // 2
        return self.max_pinned

    def __str__(self) -> str:
        return str(parse_database_url(self.url))
