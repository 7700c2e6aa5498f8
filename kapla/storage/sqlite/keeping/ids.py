"""Sets of ids of blocks, in the order of arrival.

A row number is a signed 64 bit integer. A damaged store goes on at the lowest negative ones, so
that as unsigned numbers ids are always in the order of arrival. These are compressed bitmaps: a run
of any length takes some bytes, and a single id about two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final, Self

from pyroaring import BitMap64

from kapla.errors import StorageError

__all__ = ["Ids"]

_MASK: Final = (1 << 64) - 1
_SIGN: Final = 1 << 63
_CHECKSUM: Final = 16


def _unsigned(block_id: int) -> int:
    return block_id & _MASK


def _signed(number: int) -> int:
    return number - (1 << 64) if number & _SIGN else number


class Ids:
    """A set of ids. Not locked: one thread changes it; a look from another sees it before or after.

    Each operation is one call of the library, and holds the interpreter's lock.
    """

    __slots__ = ("_bits",)

    def __init__(self, ids: Iterable[int] = ()) -> None:
        self._bits = BitMap64([block_id & _MASK for block_id in ids])

    @classmethod
    def _of(cls, bits: BitMap64) -> Self:
        made = cls.__new__(cls)
        made._bits = bits
        return made

    @classmethod
    def run(cls, first: int, last: int) -> Self:
        """All ids from `first` to `last`, both included, in the order of arrival."""
        bits = BitMap64()
        bits.add_range(_unsigned(first), _unsigned(last) + 1)
        return cls._of(bits)

    @classmethod
    def unpack(cls, data: object) -> Self:
        """Read what `pack` wrote.

        Raises: StorageError, if it is damaged.
        """
        if not isinstance(data, bytes) or len(data) < _CHECKSUM:
            raise StorageError("a set of blocks is damaged")
        body = data[_CHECKSUM:]
        # The library trusts what it is given.
        if _checksum(body) != data[:_CHECKSUM]:
            raise StorageError("a set of blocks is damaged")
        return cls._of(BitMap64.deserialize(body))

    def pack(self) -> bytes:
        """Write the set, with a checksum."""
        self._bits.run_optimize()
        body: bytes = self._bits.serialize()
        return _checksum(body) + body

    def add(self, ids: Iterable[int]) -> None:
        """Take these in."""
        self._bits.update([block_id & _MASK for block_id in ids])

    def discard(self, ids: Iterable[int]) -> None:
        """These no more."""
        self._bits.difference_update(Ids(ids)._bits)

    def unite(self, other: Ids) -> None:
        """Take in all of another set."""
        self._bits |= other._bits

    def subtract(self, other: Ids) -> None:
        """None of another set any more."""
        self._bits -= other._bits

    def drop_run(self, first: int, last: int) -> None:
        """None of these any more, both included."""
        self._bits.remove_range(_unsigned(first), _unsigned(last) + 1)

    def copy(self) -> Ids:
        """The same, apart."""
        return Ids._of(self._bits.copy())

    def next(self, block_id: int) -> int | None:
        """The first id here that is this one or came after it."""
        try:
            found: int = self._bits.next_set_bit(_unsigned(block_id))
        except ValueError:
            return None
        return _signed(found)

    def next_gap(self, block_id: int) -> int:
        """The first id that is not here and is this one or comes after it."""
        start = _unsigned(block_id)
        if start not in self._bits:
            return block_id
        # All of the first `inside` ids are here, not all of the first `beyond`.
        inside, beyond = 1, 2
        while start + beyond <= _MASK and self._bits.contains_range(start, start + beyond):
            inside, beyond = beyond, 2 * beyond
        beyond = min(beyond, _MASK - start)
        while beyond - inside > 1:
            middle = (inside + beyond) // 2
            if self._bits.contains_range(start, start + middle):
                inside = middle
            else:
                beyond = middle
        return _signed(start + inside)

    def first(self) -> int | None:
        """The one that came first."""
        return _signed(self._bits.min()) if self._bits else None

    def overlap(self, other: Ids) -> int:
        """How many are in both."""
        return int(self._bits.intersection_cardinality(other._bits))

    def __or__(self, other: Ids) -> Ids:
        return Ids._of(self._bits | other._bits)

    def __and__(self, other: Ids) -> Ids:
        return Ids._of(self._bits & other._bits)

    def __sub__(self, other: Ids) -> Ids:
        return Ids._of(self._bits - other._bits)

    def __contains__(self, block_id: int) -> bool:
        return _unsigned(block_id) in self._bits

    def __iter__(self) -> Iterator[int]:
        return map(_signed, self._bits)

    def __len__(self) -> int:
        return len(self._bits)

    def __bool__(self) -> bool:
        return bool(self._bits)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ids) and bool(self._bits == other._bits)

    __hash__ = None  # type: ignore[assignment]


def _checksum(body: bytes) -> bytes:
    return blake2b(body, digest_size=_CHECKSUM).digest()
