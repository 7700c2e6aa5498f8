"""Stands in for what may be lent, which is still to come."""

from __future__ import annotations

from collections.abc import Sequence

from eris.model import Reference
from kapla.storage.postgresql.session import Session

__all__ = ["Lent"]


class Lent:
    """Nothing is lent."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def among(self, names: Sequence[Reference]) -> list[Reference]:
        """Which of these may be lent."""
        return []
