"""The port: a map, wherever it is."""

from __future__ import annotations

from typing import ClassVar, Protocol

from guix_glue.errors import GuixError
from guix_glue.formats.item_map import Contents

__all__ = ["Map", "UnlistedMap"]


class UnlistedMap(GuixError):
    """A map that answers for one item at a time, and does not say which there are."""

    exit_code: ClassVar[int] = 2

    def __init__(self) -> None:
        super().__init__(
            "a server's map is asked for one item at a time, and lists none; what it has as a whole"
            " is at /map.urn"
        )


class Map(Protocol):
    """Which item is under which URN. `close()` it."""

    async def find(self, hash_part: str) -> str | None:
        """The URN of the item with this hash part; None if the map has none.

        Raises: InvalidMap, FetchFailed, DatabaseError; BlockNotFound, ContentError, StoreError;
        OSError.
        """

    async def load(self) -> Contents:
        """All of it, in memory. Raises: as `find`; UnlistedMap, if it can only be asked."""

    async def close(self) -> None:
        """Let go of what is held."""
