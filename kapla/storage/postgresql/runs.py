"""Stands in for the runs of pins, which are still to come."""

from __future__ import annotations

from collections.abc import Sequence

from kapla.storage.postgresql.session import Cursor

__all__ = ["kept_among"]


def kept_among(cursor: Cursor, names: Sequence[bytes]) -> set[bytes]:
    """Which of these sorted references must not go."""
    return set()
