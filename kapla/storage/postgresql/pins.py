"""Stands in for the pins, which are still to come."""

from __future__ import annotations

from collections.abc import Sequence

from eris.errors import StoreRefused
from eris.model import Reference
from kapla.storage.pins import Closing, Hold, PinChoice, PinSummary
from kapla.storage.port import Promise
from kapla.storage.postgresql.session import Cursor, Session
from kapla.storage.postgresql.settings import PostgresSettings

__all__ = ["PostgresPins"]


class PostgresPins:
    """There are none."""

    def __init__(self, session: Session, settings: PostgresSettings) -> None:
        self._session = session

    def fulfil(self, cursor: Cursor, promises: Sequence[Promise], generation: int) -> None:
        """Hold or lend what was promised, in the transaction of the PUT."""

    def hold_found(self, cursor: Cursor, hold: Hold, names: Sequence[Reference]) -> None:
        """Hold what was found."""

    def want(self, number: int, hold: Hold, references: Sequence[Reference]) -> None:
        """An open pin lacks these."""

    def begin(self, owner: int, wants: int | None) -> tuple[int, Hold, int]:
        """None can be opened."""
        raise StoreRefused("there are no pins yet")

    def close(self, number: int, hold: Hold, closing: Closing, most: int) -> PinSummary:
        """None is open."""
        raise StoreRefused("there are no pins yet")

    def abandon(self, number: int, hold: Hold, *, lend: bool = False) -> int:
        """None is open."""
        return 0

    def page(
        self, owner: int | None, after: tuple[int, str], most: int
    ) -> tuple[list[PinSummary], bool]:
        """None."""
        return [], False

    def count(self) -> int:
        """None."""
        return 0

    def change(self, choice: PinChoice, *, lend: bool | None, keep: bool | None) -> PinSummary:
        """None."""
        raise StoreRefused("there are no pins yet")

    def release(self, choice: PinChoice) -> PinSummary:
        """None."""
        raise StoreRefused("there are no pins yet")
