"""What pins lack: found out when somebody asks, for nobody tells when it comes.

A pin is a set of references, whether the blocks are there or not, so a PUT does not look for who
lacks what it brings. Runs of what is lacking are looked through some at a time, each time in a
short transaction: PUTs wait for the lock of presence no longer than that.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from eris.model import BlockSize, Reference
from kapla.storage.postgresql import locks
from kapla.storage.postgresql.holds import Account, insert_runs
from kapla.storage.postgresql.parts import rows_of
from kapla.storage.postgresql.presence import AskedFor, look_up, rescue
from kapla.storage.postgresql.quota import Quota
from kapla.storage.postgresql.runs import checked, runs_of, split
from kapla.storage.postgresql.session import Cursor, Session

__all__ = ["Lacking"]

_AT_ONCE: Final = 16
"""Runs that are looked through in one transaction."""

_PLACES: Final = "SELECT ctid::text FROM pin_runs WHERE pin = %s AND lacking"
_LOCK: Final = "SELECT owner, name IS NULL FROM pins WHERE number = %s FOR UPDATE"
_RUNS: Final = """
SELECT ctid::text, names FROM pin_runs
WHERE pin = %(pin)s AND lacking AND ctid = ANY(%(places)s::text[]::tid[])
"""
_HELD_PLACES: Final = "SELECT ctid::text FROM pin_runs WHERE pin = %s AND NOT lacking"
_HELD_RUNS: Final = """
SELECT ctid::text, size, names FROM pin_runs
WHERE pin = %(pin)s AND NOT lacking AND ctid = ANY(%(places)s::text[]::tid[])
"""
_DELETE: Final = "DELETE FROM pin_runs WHERE ctid = ANY(%s::text[]::tid[])"
_COUNT: Final = """
UPDATE pins SET small = small + %s::bigint, large = large + %s::bigint,
    missing = missing - %s::bigint
WHERE number = %s
"""
_HELD: Final = "SELECT names FROM pin_runs WHERE pin = %d AND NOT lacking"


class Lacking:
    """Finds what has come of that which pins lack."""

    def __init__(self, session: Session, quota: Quota, asked: AskedFor) -> None:
        """`asked`: see `Front.asked`."""
        self._session, self._quota, self._asked = session, quota, asked

    def settle(self, number: int, most: int | None = None) -> int:
        """See what has come of that which a pin lacks. Returns how many runs were looked through.

        `most`: runs, of which some at random are taken; None: all. Where the owner of a closed pin
        has pinned too much it goes on to lack them. Raises: StoreUnavailable.
        """
        return self._go_through(_PLACES, self._settle, number, most)

    def recount(self, number: int, most: int) -> None:
        """See what has gone of that which a closed pin has: it lacks that from now on.

        For one that does not keep. `most`: as for `settle`. Raises: StoreUnavailable.
        """
        self._go_through(_HELD_PLACES, self._recount, number, most)

    def _go_through(
        self,
        query: str,
        step: Callable[[Cursor, int, Sequence[str]], None],
        number: int,
        most: int | None,
    ) -> int:
        """Take a step with some runs of a pin at a time; returns how many runs it were."""
        places = self._session.retried(
            lambda cursor: [row[0] for row in cursor.execute(query, (number,)).fetchall()]
        )
        if most is not None and len(places) > most:
            places = random.sample(places, most)

        def some(cursor: Cursor, start: int) -> None:
            step(cursor, number, places[start : start + _AT_ONCE])

        for start in range(0, len(places), _AT_ONCE):
            self._session.retried(partial(some, start=start))
        return len(places)

    def _recount(self, cursor: Cursor, number: int, places: Sequence[str]) -> None:
        cursor.execute(locks.shared(locks.PRESENCE).encode())
        pin = cursor.execute(_LOCK, (number,)).fetchone()
        if pin is None or pin[1]:
            return
        cursor.execute(_HELD_RUNS, {"pin": number, "places": list(places)})
        for place, size, run in cursor.fetchall():
            names = set(split(checked(run)))
            gone = names - set(look_up(cursor, list(names), self._asked))
            if not gone:
                continue
            cursor.execute(_DELETE, ([place],))
            insert_runs(cursor, number, runs_of(names - gone), size)
            insert_runs(cursor, number, runs_of(gone), None)
            small, large = (len(gone), 0) if size == BlockSize.SMALL else (0, len(gone))
            cursor.execute(_COUNT, (-small, -large, -len(gone), number))

    def _settle(self, cursor: Cursor, number: int, places: Sequence[str]) -> None:
        cursor.execute(locks.shared(locks.PRESENCE).encode())
        pin = cursor.execute(_LOCK, (number,)).fetchone()
        if pin is None:
            return
        owner, is_open = pin
        rows = cursor.execute(_RUNS, {"pin": number, "places": list(places)}).fetchall()
        runs = {place: split(checked(run)) for place, run in rows}
        names = sorted({name for names in runs.values() for name in names})
        sizes = look_up(cursor, names, self._asked)
        come = set(sizes)
        if is_open and len(come) < len(names):
            # What is held is there, too; and what leaves need not be put once more.
            come |= _held(cursor, number, set(names) - come)
            rescue(cursor, [name for name in names if name not in come])
            sizes |= look_up(cursor, [name for name in names if name not in come], self._asked)
            come.update(sizes)
        if (
            not is_open
            and sizes
            and self._quota.take(cursor, Account(owner), _by_size(sizes)) is not None
        ):
            return
        self._move(cursor, number, runs, come, sizes)
        if not is_open:
            by_size = _by_size(sizes)
            small, large = len(by_size[BlockSize.SMALL]), len(by_size[BlockSize.LARGE])
            cursor.execute(_COUNT, (small, large, len(sizes), number))

    def _move(
        self,
        cursor: Cursor,
        number: int,
        runs: dict[str, list[Reference]],
        come: set[Reference],
        sizes: dict[Reference, int],
    ) -> None:
        """Have a pin hold what has come, and lack it no more."""
        changed = {place: names for place, names in runs.items() if not come.isdisjoint(names)}
        if not changed:
            return
        cursor.execute(_DELETE, (list(changed),))
        for names in changed.values():
            insert_runs(cursor, number, runs_of(set(names) - come), None)
        for size, found in _by_size(sizes).items():
            insert_runs(cursor, number, runs_of(found), size)


def _by_size(sizes: dict[Reference, int]) -> dict[int, set[bytes]]:
    found: dict[int, set[bytes]] = {int(size): set() for size in BlockSize}
    for name, size in sizes.items():
        found[size].add(name)
    return found


def _held(cursor: Cursor, number: int, wanted: Iterable[Reference]) -> set[Reference]:
    """Which of these an open pin holds."""
    left = set(wanted)
    found = set[Reference]()
    if left:
        for (run,) in rows_of(cursor, _HELD, number):
            found |= left.intersection(split(checked(run)))
    return found
