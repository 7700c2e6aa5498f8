"""Where the newest blocks are: an index in memory, before it goes into the database's own.

References are random, so every insertion into a large index on disk touches a page of its own:
16 KiB written, twice, for a block of 1 KiB. Here the places of new blocks are only logged, and kept
in two generations in memory: the young one grows; when it is full it becomes the old one and moves
into the index on disk in the order of the prefixes, some with each commit, so that many insertions
share a page. What the log still holds is read again when the store is opened.

Used by three threads without a lock: the writer changes it, reader and finder look. They ask the
young generation, then the old one, then the index on disk. A place moves in the same direction, and
leaves one only after it stands in the next (on disk: after the commit), so it is never missed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Final

from kapla.errors import StorageError

__all__ = ["GENERATION", "RecentPlaces", "pack_prefixes", "unpack_prefixes"]

GENERATION: Final = 65536
"""Places in a generation: about 10 MiB of memory, and with ten million blocks on disk still four
insertions a page."""

# Moved into the index on disk for each new block: so the old generation is gone before the young
# one is full.
_MOVE_FACTOR: Final = 2
_MOVE_AT_LEAST: Final = 64

# One block for a prefix; several only where references agree in their first eight bytes, which
# somebody may have made happen.
_Places = dict[int, int | tuple[int, ...]]


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


def _add(places: _Places, prefix: int, block_id: int) -> None:
    known = places.get(prefix)
    if known is None:
        places[prefix] = block_id
    else:
        places[prefix] = (*(known if isinstance(known, tuple) else (known,)), block_id)


class RecentPlaces:
    """The ids of the blocks that the index on disk may not hold yet, by prefix."""

    def __init__(self, generation: int = GENERATION) -> None:
        self._generation = generation
        self._young: _Places = {}
        self._young_until = 0
        self._old: _Places = {}
        self._old_until = 0
        # The old generation in the order of the prefixes, and how much of it has moved.
        self._moving: list[tuple[int, int]] = []
        self._moved = 0

    def add(self, first_id: int, prefixes: Sequence[int]) -> None:
        """Note committed blocks with consecutive ids; for the writer."""
        young = self._young
        for block_id, prefix in enumerate(prefixes, first_id):
            if prefix in young:
                _add(young, prefix, block_id)
            else:
                young[prefix] = block_id
        self._young_until = first_id + len(prefixes) - 1

    def find(self, prefixes: Iterable[int]) -> tuple[list[int], list[int]]:
        """Look prefixes up; returns the ids found, and the prefixes that are not known here.

        An id tells of a block with this prefix, not yet of the wanted one.
        """
        young, old = self._young, self._old
        # Read in this order, and the references taken before: see the head of this file.
        ids: list[int] = []
        elsewhere: list[int] = []
        for prefix in prefixes:
            newer, older = young.get(prefix), old.get(prefix)
            if newer is None and older is None:
                elsewhere.append(prefix)
                continue
            for place in (newer, older):
                if place is not None:
                    ids += (place,) if isinstance(place, int) else place
        return ids, elsewhere

    def next_to_move(self, new_blocks: int) -> list[tuple[int, int]]:
        """The (prefix, id) pairs that should go into the index on disk with the next commit."""
        if not self._moving:
            if len(self._young) < self._generation:
                return []
            self._begin_moving()
        count = max(_MOVE_AT_LEAST, _MOVE_FACTOR * new_blocks)
        return self._moving[self._moved : self._moved + count]

    def done_after(self, moved: Sequence[tuple[int, int]]) -> int | None:
        """The id up to which the log may go once these have moved, if they are the last."""
        if moved and self._moved + len(moved) == len(self._moving):
            return self._old_until
        return None

    def confirm(self, moved: Sequence[tuple[int, int]]) -> None:
        """These are committed to the index on disk; for the writer."""
        self._moved += len(moved)
        if self._moving and self._moved == len(self._moving):
            self._old = {}
            self._moving = []
            self._moved = 0

    def _begin_moving(self) -> None:
        # All that can fail comes first: a generation that is old and not moving would be forgotten.
        moving: list[tuple[int, int]] = []
        for prefix, ids in self._young.items():
            if isinstance(ids, tuple):
                moving += [(prefix, block_id) for block_id in ids]
            else:
                moving.append((prefix, ids))
        moving.sort()
        young: _Places = {}
        # In this order: at every moment each place is in one of the two.
        self._old = self._young
        self._old_until = self._young_until
        self._young = young
        self._moving = moving
        self._moved = 0
