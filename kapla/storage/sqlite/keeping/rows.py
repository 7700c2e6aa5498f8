"""The rows of pins, of what they lack, and of what has come for them: reading and writing.

On the writer's connection. What is written here is written inside the caller's transaction.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from sqlalchemy import BindParameter, Select, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite import insert as insert_or_ignore

from eris.model import BlockSize, Reference
from kapla.errors import StorageError
from kapla.storage.pins import BEFORE_PINS, SALVAGED, PinChoice, Sizes
from kapla.storage.sqlite import schema
from kapla.storage.sqlite.keeping.ids import Ids
from kapla.storage.sqlite.keeping.pin import Pin

__all__ = ["PinRows", "Wanting", "pin_of_row"]

_IN_SIZES: Final = (1, 16, 256)
_WHOLE: Final = 32


class Wanting(NamedTuple):
    """That some pin lacks a block. `key`: its reference, or as much as is known of it."""

    key: bytes
    pin: int


class _Texts:
    """The texts of all statements."""

    def __init__(self) -> None:
        pins, wanted, arrivals = schema.pins, schema.wanted, schema.arrivals
        dialect = sqlite.dialect(paramstyle="qmark")

        def compiled(statement: Any) -> str:
            return str(statement.compile(dialect=dialect))

        def ordered(statement: Select[Any]) -> str:
            return compiled(statement.order_by(pins.c.owner, pins.c.name).limit(bindparam("most")))

        every = select(pins)
        owner: BindParameter[int] = bindparam("owner")
        name: BindParameter[bytes] = bindparam("name")
        self.pins = compiled(every.order_by(pins.c.id))
        self.pins_down = compiled(every.order_by(pins.c.id.desc()))
        self.ids = compiled(select(pins.c.id).order_by(pins.c.id))
        self.pin = compiled(every.where(pins.c.id == bindparam("id")))
        self.named = compiled(every.where(pins.c.owner == owner, pins.c.name == name))
        self.rooted = compiled(every.where(pins.c.owner == owner, pins.c.root == bindparam("root")))
        self.page_of = ordered(every.where(pins.c.owner == owner, pins.c.name > name))
        self.page = ordered(
            every.where(
                or_(
                    pins.c.owner > owner, (pins.c.owner == bindparam("same")) & (pins.c.name > name)
                )
            )
        )
        self.insert_pin = compiled(insert(pins))
        self.delete_pin = compiled(delete(pins).where(pins.c.id == bindparam("id")))
        at = pins.c.id == bindparam("at")
        self.switch = compiled(
            update(pins).where(at).values(keep=bindparam("kept"), lend=bindparam("lent"))
        )
        self.refill = compiled(
            update(pins)
            .where(at)
            .values(
                before_small=bindparam("small_sum"),
                before_large=bindparam("large_sum"),
                small=bindparam("smalls"),
                large=bindparam("larges"),
            )
        )
        self.last_pin = compiled(select(func.max(pins.c.id)))
        self.last_wanting = compiled(select(func.max(wanted.c.pin)))
        self.last_arrival = compiled(select(func.max(arrivals.c.pin)))

        self.want = compiled(insert_or_ignore(wanted).on_conflict_do_nothing())
        self.wanting = {
            count: compiled(
                select(wanted.c.reference, wanted.c.pin)
                .where(wanted.c.reference.in_([bindparam(f"p{i}") for i in range(count)]))
                .limit(bindparam("most"))
            )
            for count in _IN_SIZES
        }
        self.wanting_after = compiled(
            select(wanted.c.reference, wanted.c.pin)
            .where(wanted.c.reference == bindparam("key"), wanted.c.pin > bindparam("after"))
            .order_by(wanted.c.pin)
            .limit(bindparam("most"))
        )
        self.unwant = compiled(
            delete(wanted).where(
                wanted.c.reference == bindparam("key"), wanted.c.pin == bindparam("pin")
            )
        )
        self.missing = compiled(
            select(wanted.c.pin, func.count()).group_by(wanted.c.pin).order_by(wanted.c.pin)
        )
        self.some_of = compiled(
            select(wanted.c.reference).where(wanted.c.pin == bindparam("pin")).limit(bindparam("n"))
        )
        self.lacking = compiled(
            select(wanted.c.reference)
            .where(wanted.c.pin == bindparam("pin"))
            .order_by(wanted.c.reference)
            .limit(bindparam("n"))
            .offset(bindparam("skipped"))
        )
        self.cut = compiled(
            select(func.count())
            .select_from(wanted)
            .where(func.length(wanted.c.reference) < bindparam("whole"))
        )
        self.arrive = compiled(insert_or_ignore(arrivals).on_conflict_do_nothing())
        self.arrived = compiled(
            select(arrivals.c.block_id, arrivals.c.block_size).where(
                arrivals.c.pin == bindparam("pin")
            )
        )
        self.forget_arrived = compiled(delete(arrivals).where(arrivals.c.pin == bindparam("pin")))
        self.forget_arrival = compiled(
            delete(arrivals).where(
                arrivals.c.pin == bindparam("pin"), arrivals.c.block_id == bindparam("id")
            )
        )
        self.arriving = compiled(
            select(arrivals.c.pin, func.count()).group_by(arrivals.c.pin).order_by(arrivals.c.pin)
        )


@cache
def _texts() -> _Texts:
    return _Texts()


def pin_of_row(row: Sequence[Any]) -> Pin:
    """Read a row of the table.

    Raises: StorageError, if it is damaged.
    """
    number, owner, name, root, keep, lend, created, before_small, before_large, small, large = row
    try:
        if not all(isinstance(value, int) for value in (number, owner, keep, lend, created)):
            raise StorageError("a number of a pin is damaged")
        if not (root is None or (isinstance(root, bytes) and len(root) == 32)):
            raise StorageError("the root of a pin is damaged")
        sums, is_counted = None, True
        if name in (BEFORE_PINS.encode(), SALVAGED.encode()) and owner == 0:
            sums = Sizes(_count(before_small), _count(before_large))
            is_counted = None not in (before_small, before_large)
        return Pin(
            number,
            owner,
            name.decode("utf-8"),
            None if root is None else Reference(root),
            bool(keep),
            bool(lend),
            created,
            Ids.unpack(small),
            Ids.unpack(large),
            sums,
            is_counted,
        )
    except (AttributeError, UnicodeDecodeError) as error:
        raise StorageError("the name of a pin is damaged") from error


def _count(value: object) -> int:
    # Unknown where the totals were damaged when the pin was made.
    return value if isinstance(value, int) and value >= 0 else 0


def _sums_in_row(pin: Pin) -> tuple[int | None, int | None]:
    return (None, None) if pin.sums is None or not pin.is_counted else pin.sums


class PinRows:
    """The three tables, on one connection.

    Raises: sqlite3.Error from everything; StorageError where a row is damaged.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._texts = _texts()

    def all(self) -> Iterator[Pin]:
        """Every pin, one at a time, with what has come for it."""
        # Not a cursor: pins may be written meanwhile.
        for (number,) in self._connection.execute(self._texts.ids).fetchall():
            yield self._one(self._texts.pin, number)

    def named(self, owner: int, name: str) -> Pin | None:
        """The one pin of this name."""
        return self._first(self._texts.named, owner, name.encode())

    def rooted(self, owner: int, root: Reference) -> list[Pin]:
        """All pins with this root."""
        rows = self._connection.execute(self._texts.rooted, (owner, root)).fetchall()
        return [self._whole(row) for row in rows]

    def chosen(self, choice: PinChoice) -> list[Pin]:
        """Those that are meant.

        What the daemon makes is root's; its own user has a right to it too.
        """
        if choice.name is None:
            assert choice.root is not None
            return self.rooted(choice.owner, choice.root)
        pin = self.named(choice.owner, choice.name)
        is_own = choice.name in (BEFORE_PINS, SALVAGED) and choice.owner == os.geteuid()
        if pin is None and is_own:
            pin = self.named(0, choice.name)
        return [] if pin is None else [pin]

    def page(self, owner: int | None, after: tuple[int, str], most: int) -> list[Pin]:
        """Some pins in the order of owner and name, of one owner or of all (None)."""
        name = after[1].encode()
        if owner is None:
            values: tuple[Any, ...] = (after[0], after[0], name, most, 0)
            rows = self._connection.execute(self._texts.page, values)
        else:
            rows = self._connection.execute(self._texts.page_of, (owner, name, most, 0))
        return [self._whole(row) for row in rows.fetchall()]

    def last_number(self) -> int:
        """The highest number that a pin has or had, of which something is left."""
        texts = self._texts
        found = [
            self._connection.execute(text).fetchone()[0]
            for text in (texts.last_pin, texts.last_wanting, texts.last_arrival)
        ]
        return max(value for value in (*found, 0) if isinstance(value, int))

    def insert(self, pin: Pin) -> None:
        """Write a new pin."""
        sums = _sums_in_row(pin)
        self._connection.execute(
            self._texts.insert_pin,
            (
                pin.id,
                pin.owner,
                pin.name.encode(),
                pin.root,
                int(pin.keep),
                int(pin.lend),
                pin.created,
                *sums,
                pin.small.pack(),
                pin.large.pack(),
            ),
        )

    def delete(self, pin: Pin) -> None:
        """Remove a pin and what has come for it; not yet what it lacks, which may be long."""
        self._connection.execute(self._texts.delete_pin, (pin.id,))
        self._connection.execute(self._texts.forget_arrived, (pin.id,))

    def switch(self, pin: Pin) -> None:
        """Write the switches of a pin."""
        values = (int(pin.keep), int(pin.lend), pin.id)
        self._connection.execute(self._texts.switch, values)

    def refill(self, pin: Pin) -> None:
        """Write the blocks of a pin, with what has come for it."""
        sums = _sums_in_row(pin)
        values = (*sums, pin.small.pack(), pin.large.pack(), pin.id)
        self._connection.execute(self._texts.refill, values)
        self._connection.execute(self._texts.forget_arrived, (pin.id,))

    def get(self, number: int) -> Pin:
        """A pin by its number. Raises: StorageError, if there is none."""
        return self._one(self._texts.pin, number)

    def want(self, wantings: Iterable[Wanting]) -> int:
        """These are lacking; returns how many were not known to be so."""
        return self._connection.executemany(self._texts.want, wantings).rowcount

    def wanting(self, keys: Sequence[bytes], most: int) -> list[Wanting]:
        """Which pins lack these, and which of them; so many at the most."""
        found: list[Wanting] = []
        for start in range(0, len(keys), _IN_SIZES[-1]):
            part = keys[start : start + _IN_SIZES[-1]]
            size = next(size for size in _IN_SIZES if size >= len(part))
            part = [*part, *([part[-1]] * (size - len(part)))]
            values = (*part, most - len(found), 0)
            found += map(Wanting._make, self._connection.execute(self._texts.wanting[size], values))
        return found

    def wanting_after(self, key: bytes, after: int, most: int) -> list[Wanting]:
        """Some of the pins that lack this, in order, with higher numbers than the one given."""
        rows = self._connection.execute(self._texts.wanting_after, (key, after, most, 0))
        return list(map(Wanting._make, rows))

    def arrive(self, arrived: Iterable[tuple[int, int, int]]) -> None:
        """Blocks have come: (number of the pin, id, size)."""
        self._connection.executemany(self._texts.arrive, arrived)

    def unwant(self, wantings: Iterable[Wanting]) -> None:
        """These are not lacking any more."""
        self._connection.executemany(self._texts.unwant, wantings)

    def missing(self) -> dict[int, int]:
        """How much is lacking, by the number of the pin."""
        return dict(self._connection.execute(self._texts.missing).fetchall())

    def lacks_unnamed(self) -> bool:
        """Whether something is lacking whose reference is not known wholly."""
        return bool(self._connection.execute(self._texts.cut, (_WHOLE,)).fetchone()[0])

    def forget_wanted(self, number: int, most: int) -> int:
        """So much less is lacking of a pin that is gone; returns how much that was."""
        rows = self._connection.execute(self._texts.some_of, (number, most, 0)).fetchall()
        self.unwant(Wanting(key, number) for (key,) in rows)
        return len(rows)

    def lacking(self, number: int, skipped: int, most: int) -> list[bytes]:
        """Some of what a pin lacks, in order: references, or as much as is known of them."""
        rows = self._connection.execute(self._texts.lacking, (number, most, skipped)).fetchall()
        return [key for (key,) in rows]

    def arriving(self) -> dict[int, int]:
        """How much has come and is not in the bitmaps, by the number of the pin."""
        return dict(self._connection.execute(self._texts.arriving).fetchall())

    def _one(self, text: str, *values: object) -> Pin:
        pin = self._first(text, *values)
        if pin is None:
            raise StorageError("a pin is not where it was")
        return pin

    def _first(self, text: str, *values: object) -> Pin | None:
        row = self._connection.execute(text, values).fetchone()
        return None if row is None else self._whole(row)

    def _whole(self, row: Sequence[Any]) -> Pin:
        pin = pin_of_row(row)
        rows = self._connection.execute(self._texts.arrived, (pin.id,)).fetchall()
        if rows:
            pin.take(rows)
            if pin.sums is not None:
                large = sum(size == BlockSize.LARGE for _, size in rows)
                pin.sums = Sizes(pin.sums.small + len(rows) - large, pin.sums.large + large)
        return pin
