"""How a store in a PostgreSQL database is opened. Nothing here needs the driver."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from kapla.errors import StorageError
from kapla.storage.pins import quota_of

__all__ = ["SCHEMES", "PostgresSettings"]

SCHEMES: Final = ("postgresql", "postgres")
"""How the URL of such a store begins, as libpq has it."""

_GIB: Final = 1 << 30
_LEAST_GENERATION: Final = 4 * _GIB
# So many generations there are at least in a store with a cap: what goes at once is a part of it.
_FEWEST: Final = 8
_MOST: Final = 16


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """How a store in a database is opened.

    `url` is libpq's: it may have a password, which is in no `repr` and no `str`.

    `synchronous`: either is the server's commit, which survives a server that is killed; whether it
    survives a power cut is the server's own setting (`fsync`). `max_size`: bytes that the tables
    may grow to, or None. `when_full`: what is not kept by anybody makes room, or what is new is
    refused. `generation_bytes`: how large a generation becomes, the piece in which blocks go; None:
    as it fits the store. `connections`: as many threads write, and as many read.
    """

    url: str = field(repr=False)
    synchronous: Literal["normal", "full"] = "normal"
    max_size: int | None = None
    when_full: Literal["evict", "refuse"] = "evict"
    max_pinned: int | None = None
    """Bytes that the pins of one user may hold. None: half of `max_size`, if there is that."""

    lend_cache: bool = True
    """Whether blocks that no pin has may be lent."""

    may_make: bool = True
    """Whether the tables are made where there are none."""

    connections: int = 2
    generation_bytes: int | None = None

    @classmethod
    def of(cls, url: str, **others: Any) -> PostgresSettings:
        """Settings for a URL `postgresql://…`.

        Raises: StorageError, if it is none.
        """
        try:
            parts = urlsplit(url)
        except ValueError:
            # Its message would have the URL in it.
            raise StorageError("this is no URL of a database") from None
        if parts.scheme not in SCHEMES or not url.startswith(f"{parts.scheme}://"):
            raise StorageError("the URL of a database begins with postgresql://")
        return cls(url, **others)

    @property
    def scrub_rate(self) -> int:
        """Nothing is hashed in the background: that its pages are sound is the server's business.

        It has checksums for that (`initdb --data-checksums`).
        """
        return 0

    @property
    def pinned_quota(self) -> int | None:
        """Bytes that the pins of one user may hold together, or None: any number."""
        return quota_of(self.max_pinned, self.max_size)

    @property
    def evicts(self) -> bool:
        """Whether room is made: only so it matters what is read."""
        return self.max_size is not None and self.when_full == "evict"

    def generation_size(self, stored: int) -> int:
        """How many bytes a generation of a store with so many bytes becomes large."""
        if self.generation_bytes is not None:
            return self.generation_bytes
        if self.max_size is None:
            return max(_LEAST_GENERATION, stored // _MOST)
        return min(max(_LEAST_GENERATION, self.max_size // _MOST), self.max_size // _FEWEST)

    def __str__(self) -> str:
        """Host and database, and nothing else of the URL."""
        parts = urlsplit(self.url)
        given = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        address = parts.netloc.rpartition("@")[2]
        host = given.get("host", "")
        # A directory is where the server's socket is.
        if not address and not host.startswith("/"):
            address = host
        name = unquote(parts.path.removeprefix("/")) or given.get("dbname", "")
        socket = f" in {host}" if host.startswith("/") else ""
        if "service" in given and not address and not socket:
            return f"postgresql:///{name}?service={given['service']}"
        return f"postgresql://{address}/{name}{socket}"
