"""How a long transfer says how far it is.

What is sent counts when the store has confirmed it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eris.lacking import content_shares
from eris.model import EncodedBlock

__all__ = ["Progress", "Share", "Whole"]

Progress = Callable[[int, int], None]
"""Told from the event loop how far it got: files done so far, bytes of content so far."""


class Share:
    """A part of a tree on its way: as its blocks are kept, so its bytes count as done."""

    def __init__(
        self,
        files: int,
        size: int,
        blocks: Sequence[EncodedBlock],
        count: Callable[[int, int], None],
    ) -> None:
        self._files = files
        self._size = size
        self._all = content_shares(blocks)
        self._count = count
        self._kept = self._told = 0
        if not self._all:
            count(files, size)

    def keep(self, size: int) -> None:
        """So much more of it is kept; with the last of it so are the files."""
        self._kept += size
        done = self._size * self._kept // self._all
        told, self._told = self._told, done
        self._count(self._files if self._kept == self._all else 0, done - told)


class Whole:
    """A content on its way: what is told of it comes to exactly its size in the end.

    Its size may be unknown at first.
    """

    def __init__(self, size: int | None, count: Callable[[int], None]) -> None:
        self._size = size
        self._count = count
        self._told = 0

    def keep(self, size: int) -> None:
        """About so many bytes more are kept."""
        if self._size is not None:
            size = min(size, self._size - self._told)
        self._told += size
        self._count(size)

    def finish(self, size: int) -> None:
        """All of it is, and this is its size."""
        self._count(size - self._told)
