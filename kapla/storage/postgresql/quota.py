"""How much one user may pin, and how much room there is for more.

What an owner has pinned is asked of the database every few seconds, and what his open pins took
since is added: that is a bound, in which what two pins share counts twice. Only where it is too
much are the owner's blocks counted one by one, by the first 32 bits of their references, and known
from then on; only what is too much then is refused. Among a million references some hundred are
taken for others so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from pyroaring import BitMap

from eris.errors import StoreFull
from eris.model import BlockSize
from kapla.sizes import size_text
from kapla.storage.pins import Sizes, no_room
from kapla.storage.postgresql import counts
from kapla.storage.postgresql.holds import Account, Accounts
from kapla.storage.postgresql.parts import rows_of
from kapla.storage.postgresql.runs import checked, first_bits, runs_of
from kapla.storage.postgresql.session import Cursor

__all__ = ["LACKING_BYTES", "MOST_MISSING", "Limits", "Quota"]

LACKING_BYTES: Final = 128
"""What counts as pinned for each block that a pin lacks, as in every store."""

MOST_MISSING: Final = 4 * 1024 * 1024
"""That the pins of one user may lack together."""

# By how much content is longer stored than it is; of the small ones, which have more beside them.
_OVERHEAD: Final = counts.weight_of(Sizes(1, 0)) / BlockSize.SMALL
_ENDLESS: Final = 1 << 62

_FRESH_S: Final = 5.0
# Who counts all that somebody has pinned does so again only after so many times as long.
_REST: Final = 20

# What closed pins have stands beside them, what open ones have only in their runs.
_USAGE: Final = """
SELECT coalesce(sum(small), 0)::bigint, coalesce(sum(large), 0)::bigint,
    coalesce(sum(missing), 0)::bigint, count(name)
FROM pins WHERE owner = %(owner)s
UNION ALL
SELECT coalesce(sum(octet_length(names)) FILTER (WHERE size = 1024) / 32, 0)::bigint,
    coalesce(sum(octet_length(names)) FILTER (WHERE size = 32768) / 32, 0)::bigint,
    coalesce(sum(octet_length(names)) FILTER (WHERE lacking) / 32, 0)::bigint, 0
FROM pin_runs WHERE pin IN (SELECT number FROM pins WHERE owner = %(owner)s AND name IS NULL)
"""
_NAMES: Final = """
SELECT size, names FROM pin_runs
WHERE NOT lacking AND pin IN (SELECT number FROM pins WHERE owner = %d)
"""
_MAY_BE_FULL: Final = f"""
SELECT owner FROM pins GROUP BY owner
HAVING sum(
    small * {BlockSize.SMALL:d} + large * {BlockSize.LARGE:d} + missing * {LACKING_BYTES}
) > %s - {BlockSize.SMALL:d}
"""
_KEPT: Final = """
SELECT coalesce(sum(small), 0)::bigint, coalesce(sum(large), 0)::bigint FROM pins WHERE keep
UNION ALL
SELECT coalesce(sum(octet_length(names)) FILTER (WHERE size = 1024) / 32, 0)::bigint,
    coalesce(sum(octet_length(names)) FILTER (WHERE size = 32768) / 32, 0)::bigint
FROM pin_runs WHERE pin IN (SELECT number FROM pins WHERE name IS NULL)
"""


class Limits(Protocol):
    """What of the settings limits pins; `PostgresSettings` has it."""

    @property
    def max_size(self) -> int | None:
        """Bytes that the store may grow to, or None."""

    @property
    def pinned_quota(self) -> int | None:
        """Bytes that the pins of one user may hold together, or None."""

    @property
    def evicts(self) -> bool:
        """Whether room is made."""

    @property
    def lend_cache(self) -> bool:
        """Whether blocks that no pin has may be lent."""


class Quota:
    """The limits of a store, against what is pinned in it; in transactions of those who ask."""

    def __init__(self, limits: Callable[[], Limits]) -> None:
        """`limits`: as they are at the moment."""
        self._limits = limits

    @property
    def limits(self) -> Limits:
        """As they are at the moment."""
        return self._limits()

    def take(
        self, cursor: Cursor, account: Account, by_size: Mapping[int, set[bytes]]
    ) -> StoreFull | None:
        """Count these as pinned, too; or tell that it is too much. Raises: psycopg.Error."""
        quota = self.limits.pinned_quota
        if quota is None:
            return None
        more = sum(size * len(names) for size, names in by_size.items())
        with account.lock:
            if self._bound(cursor, account) + more <= quota:
                self._grow(account, more, by_size)
                return None
            return self._take_exactly(cursor, account, by_size, quota)

    def look(self, cursor: Cursor, account: Account, most: int) -> None:
        """Have at hand what `take` wants to know of so many bytes, or fewer.

        Before the lock of presence is taken: to count all that an owner has may take seconds.
        Raises: psycopg.Error.
        """
        quota = self.limits.pinned_quota
        if quota is None:
            return
        with account.lock:
            if self._bound(cursor, account) + most > quota:
                self._count_if_due(cursor, account, most, quota)

    def full(self, cursor: Cursor, accounts: Accounts) -> list[int]:
        """Owners who may not pin another block. Raises: psycopg.Error."""
        quota = self.limits.pinned_quota
        if quota is None:
            return []
        # What his pins share counts once for each here: most who are found so are not full.
        owners = cursor.execute(_MAY_BE_FULL, (quota,)).fetchall()
        return [owner for (owner,) in owners if self._is_full(cursor, accounts.of(owner), quota)]

    def excess(self, cursor: Cursor, account: Account, more: int = 0) -> StoreFull | None:
        """The error, if what an owner has, and so many bytes more, are too much.

        Raises: psycopg.Error.
        """
        quota = self.limits.pinned_quota
        if quota is None:
            return None
        with account.lock:
            self._look(cursor, account)
            assert account.bound is not None
            if account.bound + more <= quota:
                return None
            self._count(cursor, account)
            pinned = _pinned(account)
        return None if pinned + more <= quota else no_room(pinned, quota)

    def check(self, cursor: Cursor, account: Account, most: int) -> None:
        """Whether an owner may have one pin more, of `most`, with all that is held now.

        Raises: StoreFull, psycopg.Error.
        """
        count = _usage(cursor, account.owner)[2]
        if count >= most:
            raise StoreFull(f"you have {most:,} pins, which is as many as there may be")
        error = self.excess(cursor, account)
        if error is not None:
            raise error

    def check_lacking(self, cursor: Cursor, account: Account, more: int) -> None:
        """Whether an owner's pins may lack so many more. Raises: StoreFull, psycopg.Error."""
        error = self.excess(cursor, account, more * LACKING_BYTES)
        if error is not None:
            raise error
        known = _lacking(cursor, account.owner)
        if known + more > MOST_MISSING:
            raise StoreFull(
                f"your pins lack {known:,} blocks already, of {MOST_MISSING:,} that they may lack"
            )

    def room(self, cursor: Cursor, account: Account) -> int:
        """How many bytes of content an owner can still pin, for certain if nobody else does.

        Raises: psycopg.Error.
        """
        return max(0, min(self._rooms(cursor, account).values(), default=_ENDLESS))

    def check_room(self, cursor: Cursor, account: Account, wants: int) -> None:
        """Raises: StoreFull, if there is not that much room; psycopg.Error."""
        error = self.excess(cursor, account, wants)
        if error is not None:
            raise StoreFull(f"{size_text(wants)} are to come, and {error}")
        rooms = self._store_rooms(cursor)
        limit = min(rooms, key=lambda one: rooms[one], default="")
        if limit and wants > rooms[limit]:
            raise StoreFull(
                f"{size_text(wants)} are to come, and there is room to keep"
                f" {size_text(max(0, rooms[limit]))}: {limit}"
            )

    def _rooms(self, cursor: Cursor, account: Account) -> dict[str, int]:
        rooms = self._store_rooms(cursor)
        quota = self.limits.pinned_quota
        if quota is not None:
            with account.lock:
                self._look(cursor, account)
                assert account.bound is not None
                rooms["release a pin"] = quota - account.bound
        return rooms

    def _store_rooms(self, cursor: Cursor) -> dict[str, int]:
        """Bytes of content that the store has room for, by what to do where they are too few."""
        max_size = self.limits.max_size
        if max_size is None:
            return {}
        if self.limits.evicts:
            used = sum(counts.weight_of(Sizes(*row)) for row in cursor.execute(_KEPT).fetchall())
            way = "release a pin, or raise max-size"
        else:
            used = sum(map(counts.weight_of, counts.read(cursor).values()))
            way = "raise max-size"
        return {way: int((max_size - used) / _OVERHEAD)}

    def _bound(self, cursor: Cursor, account: Account) -> int:
        if account.bound is None or time.monotonic() - account.read_at > _FRESH_S:
            self._look(cursor, account)
        assert account.bound is not None
        return account.bound

    def _look(self, cursor: Cursor, account: Account) -> None:
        sizes, lacking, _ = _usage(cursor, account.owner)
        bound = sizes.bytes + lacking * LACKING_BYTES
        account.is_more_elsewhere |= account.bound is not None and bound > account.bound
        account.bound, account.lacking = bound, lacking
        account.read_at = time.monotonic()

    def _grow(self, account: Account, more: int, by_size: Mapping[int, set[bytes]]) -> None:
        assert account.bound is not None
        account.bound += more
        if account.known is not None:
            for size, names in by_size.items():
                account.known[size] |= _bits(names)

    def _is_full(self, cursor: Cursor, account: Account, quota: int) -> bool:
        with account.lock:
            if self._bound(cursor, account) + BlockSize.SMALL <= quota:
                return False
            self._count_if_due(cursor, account, BlockSize.SMALL, quota)
            return _pinned(account) + BlockSize.SMALL > quota

    def _take_exactly(
        self, cursor: Cursor, account: Account, by_size: Mapping[int, set[bytes]], quota: int
    ) -> StoreFull | None:
        self._count_if_due(cursor, account, 0, quota)
        if _with(account, by_size) > quota:
            self._count_if_due(cursor, account, quota, quota)
        if _with(account, by_size) > quota:
            return no_room(_pinned(account), quota)
        self._grow(account, sum(size * len(names) for size, names in by_size.items()), by_size)
        return None

    def _count_if_due(self, cursor: Cursor, account: Account, more: int, quota: int) -> None:
        """Look at each block, if nobody has, or what is known may be wrong and it is time."""
        if account.known is not None:
            # Something may have been released meanwhile.
            may_be_less = _pinned(account) + more > quota
            is_wrong = account.is_more_elsewhere or may_be_less
            if not is_wrong or time.monotonic() < account.rest_until:
                return
        self._count(cursor, account)

    def _count(self, cursor: Cursor, account: Account) -> None:
        """Look at each block that an owner has pinned."""
        started = time.monotonic()
        known = {int(size): BitMap() for size in BlockSize}
        for size, run in rows_of(cursor, _NAMES, account.owner):
            known[size].update(first_bits(checked(run)))
        account.known, account.is_more_elsewhere = known, False
        account.rest_until = time.monotonic() + _REST * (time.monotonic() - started)


def _usage(cursor: Cursor, owner: int) -> tuple[Sizes, int, int]:
    """What an owner's pins have, lack, and how many are closed; what two share counts twice."""
    (closed, opened) = cursor.execute(_USAGE, {"owner": owner}).fetchall()
    sizes = Sizes(closed[0] + opened[0], closed[1] + opened[1])
    return sizes, closed[2] + opened[2], closed[3] + opened[3]


def _lacking(cursor: Cursor, owner: int) -> int:
    return _usage(cursor, owner)[1]


def _pinned(account: Account) -> int:
    """The bytes of what is known, and what counts for that which is lacking."""
    assert account.known is not None
    there = sum(size * len(bits) for size, bits in account.known.items())
    return there + account.lacking * LACKING_BYTES


def _with(account: Account, by_size: Mapping[int, set[bytes]]) -> int:
    """The bytes of what is known, and of these."""
    assert account.known is not None
    return _pinned(account) + sum(
        size * len(_bits(names) - account.known[size]) for size, names in by_size.items()
    )


def _bits(names: set[bytes]) -> BitMap:
    found = BitMap()
    for run in runs_of(names):
        found.update(first_bits(run))
    return found
