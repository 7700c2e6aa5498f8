"""Lists of the blocks that a store has, as files: a line that tells what it is, and references.

A list that was cut off or damaged leads to more being sent than need be, never to less: see
`docs/formats.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from eris.model import REFERENCE_SIZE, Reference
from kapla.errors import InvalidBlockList

__all__ = ["LIST_HEAD", "ListReader", "format_references"]

LIST_HEAD: Final = b"kapla block list 1\n"
"""How such a file begins."""


def format_references(references: Sequence[Reference]) -> bytes:
    """Write some of the references that follow the first line."""
    return b"".join(references)


class ListReader:
    """Reads a list that comes in pieces."""

    def __init__(self) -> None:
        self._data = b""
        self._has_begun = False

    def feed(self, data: bytes) -> list[Reference]:
        """Give the references that these bytes complete.

        Raises: InvalidBlockList, if it does not begin as a list does.
        """
        data = self._data + data
        if not self._has_begun:
            if not LIST_HEAD.startswith(data[: len(LIST_HEAD)]):
                raise InvalidBlockList("this is no list of blocks")
            if len(data) < len(LIST_HEAD):
                self._data = data
                return []
            self._has_begun = True
            data = data[len(LIST_HEAD) :]
        end = len(data) - len(data) % REFERENCE_SIZE
        self._data = data[end:]
        return [
            Reference(data[start : start + REFERENCE_SIZE])
            for start in range(0, end, REFERENCE_SIZE)
        ]

    def finish(self) -> None:
        """Say that this was all.

        Raises: InvalidBlockList, if it is cut off.
        """
        if self._data or not self._has_begun:
            raise InvalidBlockList("this list of blocks is cut off")
