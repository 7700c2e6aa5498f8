"""How a long transfer says how far it is.

What is sent counts when the store has confirmed it, block by block.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "Share", "Whole"]

Progress = Callable[[int, int], None]
"""Told from the event loop how far it got: files done so far, bytes of content so far."""


class Share:
    """A part of a tree on its way: as its blocks are kept, so its bytes count as done."""

    def __init__(
        self, files: int, size: int, blocks: int, count: Callable[[int, int], None]
    ) -> None:
        self._files = files
        self._size = size
        self._blocks = blocks
        self._count = count
        self._kept = self._told = 0
        if not blocks:
            count(files, size)

    def keep(self, _: int) -> None:
        """One more block is kept; with the last one so are the files."""
        self._kept += 1
        done = self._size * self._kept // self._blocks
        told, self._told = self._told, done
        self._count(self._files if self._kept == self._blocks else 0, done - told)


class Whole:
    """A content of a known size on its way: what is told of it comes to exactly that."""

    def __init__(self, size: int, count: Callable[[int], None]) -> None:
        self._left = size
        self._count = count

    def keep(self, size: int) -> None:
        """About so many bytes more are kept."""
        size = min(size, self._left)
        self._left -= size
        self._count(size)

    def finish(self) -> None:
        """All of it is."""
        self.keep(self._left)
