"""Where the newest blocks are: an index in memory, before it goes into the database's own.

References are random, so every insertion into a large index on disk touches a page of its own:
16 KiB written, twice, for a block of 1 KiB. Here the places of new blocks are only logged, and kept
in two generations in memory: the young one grows; when it is full it becomes the old one and moves
into the index on disk in the order of the prefixes, slice by slice, so that many insertions share a
page. What the log still holds is read again when the store is opened, and moving goes on where it
was: how far it has come is noted with each slice.

Used by three threads without a lock: the writer changes it, reader and finder look. They ask the
young generation, then the old one, then the index on disk. A place moves in the same direction, and
leaves one only after it stands in the next (on disk: after the commit), so it is never missed. One
that leads to no block, or to another one, does no harm: the block's reference decides.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from kapla.errors import StorageError

__all__ = ["GENERATION", "Moved", "RecentPlaces", "Slice", "pack_prefixes", "unpack_prefixes"]

GENERATION: Final = 65536
"""Places in a generation: about 10 MiB of memory, and with ten million blocks on disk still four
insertions a page."""

# Moved into the index on disk for each new block: so the old generation is gone before the young
# one is full.
_MOVE_FACTOR: Final = 2
# Moved at once, in one transaction: enough for neighbours to share pages, and a new block hardly
# waits for it.
_SLICE: Final = 256

# One block for a prefix; several only where references agree in their first eight bytes, which
# somebody may have made happen.
_Places = dict[int, int | tuple[int, ...]]


class Moved(NamedTuple):
    """How far moving has come: up to this id, the prefixes up to this one are on disk."""

    until_id: int
    prefix: int


class Slice(NamedTuple):
    """Some of the old generation, in order: its prefixes, and the (prefix, id) pairs of these."""

    prefixes: list[int]
    places: list[tuple[int, int]]


def pack_prefixes(prefixes: Sequence[int]) -> bytes:
    """Write the prefixes of blocks with consecutive ids as one entry of the log."""
    return struct.pack(f">{len(prefixes)}q", *prefixes)


def unpack_prefixes(entry: bytes) -> tuple[int, ...]:
    """Read one entry of the log.

    Raises: StorageError, if it is none.
    """
    if not isinstance(entry, bytes) or len(entry) % 8:
        raise StorageError("the log of recent blocks is damaged")
    return struct.unpack(f">{len(entry) // 8}q", entry)


def _ids(known: int | tuple[int, ...] | None) -> tuple[int, ...]:
    if known is None:
        return ()
    return known if isinstance(known, tuple) else (known,)


class RecentPlaces:
    """The ids of the blocks that the index on disk may not hold yet, by prefix."""

    def __init__(self, generation: int = GENERATION) -> None:
        self.generation = generation
        self.slice = max(1, min(_SLICE, generation // 16))
        """How many prefixes are moved at once."""
        self._young: _Places = {}
        self._young_until = 0
        self._old: _Places = {}
        self._old_until = 0
        # The prefixes of the old generation in order, and how many of them have moved.
        self._order: list[int] = []
        self._moved = 0

    def __len__(self) -> int:
        """How many prefixes are still to move."""
        return len(self._young) + len(self._order) - self._moved

    def load(self, log: Iterable[tuple[int, tuple[int, ...]]], moved: Moved | None) -> None:
        """Take in the log, in the order of the ids, and how far moving had come."""
        for first_id, prefixes in log:
            if moved is not None and first_id <= moved.until_id:
                for block_id, prefix in enumerate(prefixes, first_id):
                    self._old[prefix] = (*_ids(self._old.get(prefix)), block_id)
            else:
                self.add(first_id, prefixes)
        if self._old and moved is not None:
            self._order = sorted(self._old)
            self._old_until = moved.until_id
            self._moved = bisect_right(self._order, moved.prefix)

    def clear(self) -> None:
        """Forget all; before the store is used."""
        self._young, self._old, self._order, self._moved = {}, {}, [], 0

    def add(self, first_id: int, prefixes: Sequence[int]) -> None:
        """Note blocks with consecutive ids, just before they are committed; for the writer."""
        young = self._young
        for block_id, prefix in enumerate(prefixes, first_id):
            if prefix in young:
                young[prefix] = (*_ids(young[prefix]), block_id)
            else:
                young[prefix] = block_id
        self._young_until = first_id + len(prefixes) - 1

    def withdraw(self, first_id: int, prefixes: Sequence[int]) -> None:
        """These were not committed after all; for the writer."""
        if prefixes:
            self._young_until = first_id - 1
        for block_id, prefix in enumerate(prefixes, first_id):
            self.discard(prefix, block_id)

    def discard(self, prefix: int, block_id: int) -> None:
        """Forget a place that leads to nothing any more; for the writer."""
        for places in (self._young, self._old):
            ids = _ids(places.get(prefix))
            if block_id in ids:
                # The entry stays, if an empty one: the order of the old generation names it.
                places[prefix] = tuple(known for known in ids if known != block_id)
        if self._young.get(prefix) == ():
            del self._young[prefix]

    def find(self, prefixes: Sequence[int]) -> tuple[list[int], list[int]]:
        """Look prefixes up; returns the ids found, and the prefixes that are not known here.

        An id tells of a block with this prefix, not yet of the wanted one.
        """
        young, old = self._young, self._old
        # Read in this order, and the references taken before: see the head of this file.
        if young.keys().isdisjoint(prefixes) and old.keys().isdisjoint(prefixes):
            return [], list(prefixes)
        ids: list[int] = []
        elsewhere: list[int] = []
        for prefix in prefixes:
            newer, older = young.get(prefix), old.get(prefix)
            if not newer and not older:
                elsewhere.append(prefix)
                continue
            for place in (newer, older):
                if place:
                    ids += (place,) if isinstance(place, int) else place
        return ids, elsewhere

    def due(self) -> int:
        """How many prefixes should have moved by now, at the least.

        Computed from what there is, and not counted: a restart changes nothing in it.
        """
        young = len(self._young)
        if not self._order:
            return young if young >= self.generation else 0
        return len(self._order) - self._moved + _MOVE_FACTOR * young - self.generation

    def can_move(self) -> bool:
        """Whether there is a generation to move."""
        return bool(self._order) or len(self._young) >= self.generation

    def next_to_move(self, count: int) -> Slice:
        """What should go into the index on disk next: so many prefixes, if there are."""
        if not self._order:
            if len(self._young) < self.generation:
                return Slice([], [])
            self._begin_moving()
        return self._slice(count)

    def all_to_move(self, count: int) -> Slice:
        """As `next_to_move`, but a young generation need not be full."""
        if not self._order:
            self._begin_moving()
        return self._slice(count)

    def after(self, part: Slice) -> tuple[Moved, bool]:
        """How far moving has come once this slice has moved, and whether that is all of it."""
        is_last = self._moved + len(part.prefixes) == len(self._order)
        return Moved(self._old_until, part.prefixes[-1]), is_last

    def confirm(self, part: Slice) -> None:
        """These are committed to the index on disk; for the writer."""
        self._moved += len(part.prefixes)
        if self._moved == len(self._order):
            self._old = {}
            self._order = []
            self._moved = 0

    def log(self) -> list[tuple[int, int]]:
        """All places as (id, prefix), in the order of the ids: what the log should hold."""
        return sorted(
            (block_id, prefix)
            for places in (self._old, self._young)
            for prefix, known in places.items()
            for block_id in _ids(known)
        )

    def _slice(self, count: int) -> Slice:
        prefixes = self._order[self._moved : self._moved + count]
        old = self._old
        return Slice(
            prefixes, [(prefix, block_id) for prefix in prefixes for block_id in _ids(old[prefix])]
        )

    def _begin_moving(self) -> None:
        # All that can fail comes first: a generation that is old and not moving would be forgotten.
        order = sorted(self._young)
        young: _Places = {}
        # In this order: at every moment each place is in one of the two.
        self._old = self._young
        self._old_until = self._young_until
        self._young = young
        self._order = order
        self._moved = 0
