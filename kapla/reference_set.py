"""Many references in little memory: 32 bytes each, and some megabytes for all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from eris.model import REFERENCE_SIZE, Reference

__all__ = ["ReferenceSet"]

# References are evenly spread: of a million each bin has sixteen.
_BINS: Final = 1 << 16
_REST: Final = REFERENCE_SIZE - 2


class ReferenceSet:
    """A set of references that only grows."""

    def __init__(self) -> None:
        # What a bin has is the rest of each reference behind its number, one after another.
        self._bins: list[bytearray | None] = [None] * _BINS
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __contains__(self, reference: Reference) -> bool:
        held = self._bins[reference[0] << 8 | reference[1]]
        return held is not None and _is_in(held, reference[2:])

    def add(self, reference: Reference) -> bool:
        """Add one; tells whether it is new."""
        number = reference[0] << 8 | reference[1]
        rest = reference[2:]
        held = self._bins[number]
        if held is None:
            self._bins[number] = bytearray(rest)
        elif _is_in(held, rest):
            return False
        else:
            held += rest
        self._size += 1
        return True

    def update(self, references: Iterable[Reference]) -> None:
        """Add many."""
        for reference in references:
            self.add(reference)


def _is_in(held: bytearray, rest: bytes) -> bool:
    at = held.find(rest)
    # Across the border of two it is neither.
    while at >= 0 and at % _REST:
        at = held.find(rest, at + 1)
    return at >= 0
