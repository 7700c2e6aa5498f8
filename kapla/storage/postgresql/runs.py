"""Runs of references: sorted, each once, one behind the other; without I/O.

A run is what a row has: some references and not too many, so that no statement carries more than
100 KiB or so. What is longer is several runs.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final

from eris.model import REFERENCE_SIZE, Reference
from kapla.errors import StorageError

__all__ = ["MOST", "Lowest", "between", "checked", "first_bits", "prefixes", "runs_of", "split"]

MOST: Final = 4096
"""References of one run."""

_AT_ONCE: Final = 1 << 19
"""References that are sorted in memory: with what is to be thrown away some 100 MiB."""


def runs_of(names: Iterable[bytes]) -> Iterator[bytes]:
    """Runs of these references, the lowest first."""
    ordered = sorted(set(names))
    for start in range(0, len(ordered), MOST):
        yield b"".join(ordered[start : start + MOST])


def split(run: bytes) -> list[Reference]:
    """The references of a run."""
    starts = range(0, len(run), REFERENCE_SIZE)
    return [Reference(run[start : start + REFERENCE_SIZE]) for start in starts]


def checked(run: bytes) -> bytes:
    """A run as it was read. Raises: StorageError, if it is none."""
    count, rest = divmod(len(run), REFERENCE_SIZE)
    if rest or not 1 <= count <= MOST:
        raise StorageError(f"a run of references has {len(run)} bytes, which it cannot have")
    return run


def between(run: bytes, low: bytes, below: bytes | None) -> bytes:
    """The part of a run that is not lower than one reference, and lower than another if any.

    Shorter values than references will do.
    """
    places = _Places(run)
    start = bisect_left(places, low)
    end = len(places) if below is None else bisect_left(places, below, lo=start)
    return run[start * REFERENCE_SIZE : end * REFERENCE_SIZE]


def first_bits(run: bytes) -> array[int]:
    """The first 32 bits of each reference, as numbers."""
    return _numbers(run, "I")


def prefixes(run: bytes) -> array[int]:
    """The first 64 bits of each reference, as numbers: ascending, as they are."""
    return _numbers(run, "Q")


class Lowest:
    """The lowest of references that come in runs, each once, as many as there is room for.

    Whoever has taken them goes on with those that are not lower than `below`, until that is None.
    """

    def __init__(self, low: bytes = b"", most: int = _AT_ONCE) -> None:
        self.below: bytes | None = None
        """No reference that is left out is lower than this; None: none is left out."""
        self._low, self._most = low, most
        self._names = bytearray()

    def add(self, run: bytes) -> None:
        """Take what fits of a run."""
        self._names += between(run, self._low, self.below)
        if len(self._names) > 2 * self._most * REFERENCE_SIZE:
            self._names = bytearray(b"".join(self._cut()))

    def runs(self) -> Iterator[bytes]:
        """All of them as runs, the lowest first; then there are none here any more."""
        names = self._cut()
        self._names = bytearray()
        for start in range(0, len(names), MOST):
            yield b"".join(names[start : start + MOST])

    def _cut(self) -> list[Reference]:
        names = split(bytes(self._names))
        names.sort()
        names = [name for name, _ in groupby(names)]
        if len(names) > self._most:
            self.below = names[self._most]
            del names[self._most :]
        return names


class _Places(Sequence[bytes]):
    """A run as the sequence of its references, to be searched."""

    def __init__(self, run: bytes) -> None:
        self._run = run

    def __len__(self) -> int:
        return len(self._run) // REFERENCE_SIZE

    def __getitem__(self, place: int) -> bytes:  # type: ignore[override]
        return self._run[place * REFERENCE_SIZE : (place + 1) * REFERENCE_SIZE]


def _numbers(run: bytes, code: str) -> array[int]:
    found: array[int] = array(code)
    every = REFERENCE_SIZE // found.itemsize
    found.extend(memoryview(run).cast(code)[::every])  # type: ignore[call-overload]
    # What comes first counts most.
    found.byteswap()
    return found
