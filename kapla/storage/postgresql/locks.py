"""The advisory locks of a store: numbers that all front ends of a database agree on."""

from __future__ import annotations

from typing import Final

__all__ = [
    "EVICTION",
    "FOLDING",
    "LENDING",
    "OF_OWNER",
    "PRESENCE",
    "SCHEMA",
    "exclusive",
    "of_owner",
    "shared",
    "trying",
]

_NAME: Final = 0x6B61706C
_KAPLA: Final = _NAME << 32

SCHEMA: Final = _KAPLA + 1
"""Whoever makes the tables."""

PRESENCE: Final = _KAPLA + 2
"""Shared by all who count on it that a block is there; alone by who changes the generations."""

EVICTION: Final = _KAPLA + 3
"""Whoever makes room."""

FOLDING: Final = _KAPLA + 4
"""Whoever adds up the totals."""

LENDING: Final = _KAPLA + 5
"""Whoever puts in order what is lent."""

OF_OWNER: Final = "SELECT pg_advisory_xact_lock(%s::int, %s::int)"
"""The statement that takes the lock of an owner: whoever changes closed pins has it. See
`of_owner`."""


def of_owner(owner: int) -> tuple[int, int]:
    """The values of `OF_OWNER` for a uid."""
    return _NAME, owner & 0x7FFFFFFF


def shared(lock: int) -> str:
    """The statement that takes a lock with others, until the transaction ends."""
    return f"SELECT pg_advisory_xact_lock_shared({lock})"


def exclusive(lock: int) -> str:
    """The statement that takes a lock alone, until the transaction ends."""
    return f"SELECT pg_advisory_xact_lock({lock})"


def trying(lock: int) -> str:
    """The statement that takes a lock alone if nobody has it, and tells whether it did."""
    return f"SELECT pg_try_advisory_xact_lock({lock})"
