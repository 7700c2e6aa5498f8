"""What pins lack: found out when somebody asks, for nobody tells when it comes.

A pin is a set of references, whether the blocks are there or not, so a PUT does not look for who
lacks what it brings. Runs of what is lacking are looked through some at a time, each time in a
short transaction: PUTs wait for the lock of presence no longer than that.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final

from eris.model import BlockSize, Reference
from kapla.storage.postgresql import generations, locks
from kapla.storage.postgresql.holds import Accounts, insert_runs
from kapla.storage.postgresql.presence import AskedFor, look_up, rescue
from kapla.storage.postgresql.quota import LACKING_BYTES, Quota
from kapla.storage.postgresql.runs import checked, runs_of, split
from kapla.storage.postgresql.session import Cursor, Session

__all__ = ["Lacking"]

_AT_ONCE: Final = 4096
"""References that are looked for in one transaction."""

_COPIED: Final = 512
"""Blocks that are copied in one transaction: 16 MiB of large ones."""

_PLACES: Final = """
SELECT ctid::text, octet_length(names) / 32 FROM pin_runs WHERE pin = %s AND lacking = %s
"""
_HOLDING: Final = """
SELECT pin, ctid::text, octet_length(names) / 32 FROM pin_runs
WHERE NOT lacking AND first <= %(name)s AND last >= %(name)s AND position(%(name)s IN names) > 0
"""
_PIN: Final = "SELECT owner, name IS NULL, keep FROM pins WHERE number = %s"
# The row first, then the lock of presence: whoever closes a pin has its row for long.
_LOCK: Final = f"{_PIN} FOR UPDATE"
_RUNS: Final = """
SELECT ctid::text, size, names FROM pin_runs
WHERE pin = %(pin)s AND lacking = %(lacking)s AND ctid = ANY(%(places)s::text[]::tid[])
"""
_DELETE: Final = "DELETE FROM pin_runs WHERE ctid = ANY(%s::text[]::tid[])"
_COUNT: Final = """
UPDATE pins SET small = small + %s::bigint, large = large + %s::bigint,
    missing = missing - %s::bigint
WHERE number = %s
"""

_Places = Sequence[str]


class Lacking:
    """Finds out what has come of that which pins lack, and gone of that which they have."""

    def __init__(
        self,
        session: Session,
        quota: Quota,
        accounts: Accounts,
        asked: AskedFor,
        between: Callable[[], None],
    ) -> None:
        """`asked`: see `Front.asked`. `between`: called now and then, in no transaction."""
        self._session, self._quota, self._asked = session, quota, asked
        self._accounts, self._between = accounts, between

    def settle(self, number: int, most: int | None = None) -> int:
        """See what has come of that which a pin lacks. Returns how many runs were looked through.

        `most`: runs, of which some at random are taken; None: all. Where the owner of a closed pin
        has pinned too much it goes on to lack them. Raises: StoreUnavailable.
        """
        return self._go_through(number, most, self._settle, lacking=True)

    def recount(self, number: int, most: int | None = None) -> int:
        """See what has gone of that which a pin has: it lacks that from now on.

        Where it keeps what it did not, what is just leaving is saved. `most`: as for `settle`.
        Returns how many runs were looked through. Raises: StoreUnavailable.
        """
        return self._go_through(number, most, self._recount, lacking=False)

    def miss(self, name: Reference) -> None:
        """See which pins have this, which was just dropped: they lack it from now on.

        Raises: StoreUnavailable.
        """
        rows = self._session.retried(
            lambda cursor: cursor.execute(_HOLDING, {"name": name}).fetchall()
        )
        found: dict[int, list[tuple[str, int]]] = {}
        for number, place, references in rows:
            found.setdefault(number, []).append((place, references))
        for number, runs in found.items():
            for places in _some_of(runs):
                self._session.retried(partial(self._recount, number=number, places=places))

    def _go_through(
        self,
        number: int,
        most: int | None,
        step: Callable[[Cursor, int, _Places], None],
        *,
        lacking: bool,
    ) -> int:
        """Take a step with some runs of a pin at a time; returns how many runs it were."""
        values = number, lacking
        found = self._session.retried(lambda cursor: cursor.execute(_PLACES, values).fetchall())
        if most is not None and len(found) > most:
            found = random.sample(found, most)

        def some(cursor: Cursor, places: _Places) -> None:
            step(cursor, number, places)

        for places in _some_of(found):
            self._between()
            # What leaves need not be put once more by whoever is just filling a pin.
            self._rescue(number, places, lacking=lacking)
            self._session.retried(partial(some, places=places))
        return len(found)

    def _rescue(self, number: int, places: _Places, *, lacking: bool) -> None:
        """Copy what leaves, some blocks in each transaction, where a pin is to have it."""
        names = self._session.retried(
            lambda cursor: self._leaving(cursor, number, places, lacking=lacking)
        )
        for start in range(0, len(names), _COPIED):
            self._session.retried(partial(_rescue, names=names[start : start + _COPIED]))

    def _leaving(
        self, cursor: Cursor, number: int, places: _Places, *, lacking: bool
    ) -> list[Reference]:
        """What only a generation may have that leaves, of a pin that is to have it."""
        if not generations.read(cursor).leaving:
            return []
        pin = cursor.execute(_PIN, (number,)).fetchone()
        if pin is None or not _saves(pin, lacking=lacking):
            return []
        names = _names_of(_runs(cursor, number, places, lacking=lacking))
        there = look_up(cursor, names, self._asked)
        return [name for name in names if name not in there]

    def _look_up(
        self, cursor: Cursor, names: list[Reference], *, saves: bool
    ) -> dict[Reference, int]:
        """Which of these are there, also as what was leaving was copied."""
        sizes = look_up(cursor, names, self._asked)
        if saves and (left := [name for name in names if name not in sizes]):
            # Nearly all of it was copied before.
            rescue(cursor, left)
            sizes |= look_up(cursor, left, self._asked)
        return sizes

    def _recount(self, cursor: Cursor, number: int, places: _Places) -> None:
        pin = cursor.execute(_LOCK, (number,)).fetchone()
        if pin is None:
            return
        rows = _runs(cursor, number, places, lacking=False)
        there = self._look_up(cursor, _names_of(rows), saves=_saves(pin, lacking=False))
        for place, size, names in rows:
            gone = set(names) - there.keys()
            if not gone:
                continue
            cursor.execute(_DELETE, ([place],))
            insert_runs(cursor, number, runs_of(set(names) - gone), size)
            insert_runs(cursor, number, runs_of(gone), None)
            if pin[1]:
                # It is counted when it is closed.
                continue
            small, large = (len(gone), 0) if size == BlockSize.SMALL else (0, len(gone))
            cursor.execute(_COUNT, (-small, -large, -len(gone), number))

    def _settle(self, cursor: Cursor, number: int, places: _Places) -> None:
        pin = cursor.execute(_LOCK, (number,)).fetchone()
        if pin is None:
            return
        account, is_open = self._accounts.of(pin[0]), pin[1]
        rows = _runs(cursor, number, places, lacking=True)
        names = _names_of(rows)
        if not is_open:
            self._quota.look(cursor, account, len(names) * BlockSize.LARGE)
        sizes = self._look_up(cursor, names, saves=_saves(pin, lacking=True))
        by_size = _by_size(sizes)
        if not is_open:
            if sizes and self._quota.take(cursor, account, by_size) is not None:
                return
            small, large = len(by_size[BlockSize.SMALL]), len(by_size[BlockSize.LARGE])
            cursor.execute(_COUNT, (small, large, len(sizes), number))
            account.lacks(-len(sizes), LACKING_BYTES)
        _move(cursor, number, rows, by_size)


def _some_of(runs: Iterable[tuple[str, int]]) -> Iterator[_Places]:
    """As many of these places at a time as are looked through at once, by their references."""
    places, count = list[str](), 0
    for place, references in runs:
        if places and count + references > _AT_ONCE:
            yield places
            places, count = [], 0
        places.append(place)
        count += references
    if places:
        yield places


_Rows = list[tuple[str, int | None, list[Reference]]]


def _runs(cursor: Cursor, number: int, places: _Places, *, lacking: bool) -> _Rows:
    """Those of these runs that are there still: where, of what size, and their references."""
    values = {"pin": number, "lacking": lacking, "places": list(places)}
    rows = cursor.execute(_RUNS, values).fetchall()
    return [(place, size, split(checked(run))) for place, size, run in rows]


def _names_of(rows: _Rows) -> list[Reference]:
    return sorted({name for _, _, names in rows for name in names})


def _saves(pin: tuple[int, bool, bool], *, lacking: bool) -> bool:
    """Whether a pin is to have what leaves: an open one all, one that keeps what it has."""
    _, is_open, keeps = pin
    return is_open or (keeps and not lacking)


def _rescue(cursor: Cursor, names: list[Reference]) -> None:
    cursor.execute(locks.shared(locks.PRESENCE).encode())
    rescue(cursor, names)


def _move(cursor: Cursor, number: int, rows: _Rows, by_size: dict[int, set[bytes]]) -> None:
    """Have a pin hold what has come, and lack it no more."""
    come = set().union(*by_size.values())
    changed = [(place, names) for place, _, names in rows if not come.isdisjoint(names)]
    if not changed:
        return
    cursor.execute(_DELETE, ([place for place, _ in changed],))
    for _, names in changed:
        insert_runs(cursor, number, runs_of(set(names) - come), None)
    for size, found in by_size.items():
        insert_runs(cursor, number, runs_of(found), size)


def _by_size(sizes: dict[Reference, int]) -> dict[int, set[bytes]]:
    found: dict[int, set[bytes]] = {int(size): set() for size in BlockSize}
    for name, size in sizes.items():
        found[size].add(name)
    return found
