"""What was put and found under an open pin, so that another one can hold it.

An open pin is in the memory of the daemon only. When that is restarted, whoever fills the pin is
the only one who knows what was in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from eris.model import REFERENCE_SIZE, Reference
from kapla.coap.blocks import MAX_FETCHED

__all__ = ["Held"]

# 64 MiB: 64 GiB of content in blocks of 32 KiB.
_MOST: Final = 2 * 1024 * 1024 * REFERENCE_SIZE


class Held:
    """References, in order and maybe several times; not more than some millions."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._references = bytearray()
        self.is_whole = True
        """Whether none was too much."""

    def add(self, reference: Reference) -> None:
        """Note one."""
        if len(self._references) < self._most:
            self._references += reference
        else:
            self.is_whole = False

    def update(self, references: Iterable[Reference]) -> None:
        """Note many."""
        more = b"".join(references)
        room = self._most - len(self._references)
        self.is_whole &= len(more) <= room
        self._references += more[: max(0, room)]

    def parts(self) -> Iterator[bytes]:
        """All of them, as many at a time as one request takes."""
        size = MAX_FETCHED * REFERENCE_SIZE
        for start in range(0, len(self._references), size):
            yield bytes(self._references[start : start + size])
