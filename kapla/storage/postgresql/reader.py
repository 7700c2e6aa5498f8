"""Reading blocks: one session, in one thread.

All generations are asked in one statement, which sees them as they are at one time. Only where
something is missing does it matter if there are others by now: then the list is looked at, and what
is missing is asked for again. What the server cannot read of its pages counts as not there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from eris.errors import StoreUnavailable
from eris.model import Reference
from kapla.storage.pins import Hold
from kapla.storage.postgresql import generations, statements
from kapla.storage.postgresql.front import Front
from kapla.storage.postgresql.generations import Generations
from kapla.storage.postgresql.lent import Lent
from kapla.storage.postgresql.pins import PostgresPins
from kapla.storage.postgresql.session import Session, is_damage

__all__ = ["PostgresReader"]

_Rows = list[tuple[Any, ...]]


class PostgresReader:
    """Reads blocks."""

    def __init__(self, front: Front, name: str = "kaplad reader") -> None:
        self.front = front
        self.session = Session(front.settings, name)
        self.session.open()
        self.pins = PostgresPins(self.session, front)
        """The pins, over this connection."""
        self._lent = Lent(self.session, front.lent, lambda: front.settings.lend_cache)

    def get_many(self, references: Sequence[Reference]) -> dict[Reference, bytes]:
        """Fetch the blocks that are there. Raises: StoreUnavailable."""
        blocks: dict[Reference, bytes] = dict(
            self._search(references, statements.fetch, lambda known: known.all)
        )
        self._note(blocks)
        return blocks

    def get_lent(self, references: Sequence[Reference]) -> dict[Reference, bytes]:
        """Fetch the blocks that are there and lent. Raises: StoreUnavailable."""
        return self.get_many(self._lent.among(references))

    def find_many(self, references: Sequence[Reference]) -> set[Reference]:
        """Tell which blocks are there, and will be: what is leaving is not.

        Raises: StoreUnavailable.
        """
        rows = self._search(references, statements.find, lambda known: known.staying)
        found = {name for (name,) in rows}
        self._note(found)
        return found

    def find_lent(self, references: Sequence[Reference]) -> set[Reference]:
        """Tell which blocks are there and lent. Raises: StoreUnavailable."""
        return self.find_many(self._lent.among(references))

    def hold_found(self, references: Sequence[Reference], hold: Hold) -> set[Reference]:
        """Tell which blocks are there; from now on they are held.

        Raises: StoreFull, StoreUnavailable.
        """
        if not references:
            return set()
        found = self.session.retried(lambda cursor: self.pins.hold_found(cursor, hold, references))
        self._note(found)
        return found

    def database_bytes(self) -> int:
        """What all tables take of the server's disk; now the totals are known too.

        Raises: StoreUnavailable.
        """
        return self.front.measure(self.session)

    def close(self) -> None:
        """Close the connection."""
        self.session.close()

    def _search(
        self,
        references: Sequence[Reference],
        statement: Callable[[tuple[int, ...]], bytes],
        chosen: Callable[[Generations], tuple[int, ...]],
    ) -> _Rows:
        """The rows of those that are there, by a statement over some of the generations."""
        if not references:
            return []
        wanted = set(references)
        rows: _Rows = []
        while True:
            found, known = self._sound_rows(
                lambda names: self.front.with_generations(
                    self.session, lambda now: (self._rows(statement, chosen(now), names), now)
                ),
                wanted,
            )
            rows += found
            wanted.difference_update(row[0] for row in found)
            if not wanted or self._epoch() == known.epoch:
                return rows
            self.front.refresh(self.session)

    def _sound_rows(
        self,
        look_up: Callable[[set[Reference]], tuple[_Rows, Generations]],
        names: set[Reference],
    ) -> tuple[_Rows, Generations]:
        """What is found of these; each alone, where something among them cannot be read."""
        try:
            return look_up(names)
        except StoreUnavailable as error:
            if not is_damage(error):
                raise
        rows: _Rows = []
        known = self.front.generations
        for name in names:
            try:
                found, known = look_up({name})
                rows += found
            except StoreUnavailable as error:
                if not is_damage(error):
                    raise
                self.front.tell_damage(error)
        return rows, known

    def _rows(
        self,
        statement: Callable[[tuple[int, ...]], bytes],
        numbers: tuple[int, ...],
        names: set[Reference],
    ) -> _Rows:
        # In order: the server goes along its index.
        asked = self.front.asked(numbers, sorted(names))
        with self.session.connection.cursor(binary=True) as cursor:
            return cursor.execute(statement(numbers), asked).fetchall()

    def _epoch(self) -> int:
        row = self.session.again(
            lambda: self.session.connection.execute(generations.EPOCH).fetchone()
        )
        assert row is not None
        return int(row[0])

    def _note(self, references: Any) -> None:
        if references and self.front.settings.evicts:
            self.front.reads.add(references)
