"""The advisory locks of a store: numbers that all front ends of a database agree on."""

from __future__ import annotations

from typing import Final

__all__ = [
    "EVICTION",
    "FOLDING",
    "HAS_FRONT",
    "IN_FRONT",
    "LENDING",
    "OF_OWNER",
    "PRESENCE",
    "SCHEMA",
    "exclusive",
    "of_front",
    "of_owner",
    "shared",
    "trying",
]

_NAME: Final = 0x6B61706C
_KAPLA: Final = _NAME << 32
_POSITIVE: Final = 0x7FFFFFFF

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


IN_FRONT: Final = f"SELECT pg_advisory_lock_shared({_NAME + 1}, %s::int)"
"""The statement by which a session has the lock of its front end, until it ends: see
`of_front`."""

HAS_FRONT: Final = f"""
EXISTS (
    SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database
    WHERE locktype = 'advisory' AND datname = current_database()
        AND classid::bigint = {_NAME + 1} AND objsubid = 2
        AND objid::bigint = fronts.number & {_POSITIVE}
)
"""
"""Whether a session of a front end, a row of `fronts`, is there: of one that was killed none is."""


def of_front(number: int) -> tuple[int]:
    """The values of `IN_FRONT`."""
    return (number & _POSITIVE,)


def of_owner(owner: int) -> tuple[int, int]:
    """The values of `OF_OWNER` for a uid."""
    return _NAME, owner & _POSITIVE


def shared(lock: int) -> str:
    """The statement that takes a lock with others, until the transaction ends."""
    return f"SELECT pg_advisory_xact_lock_shared({lock})"


def exclusive(lock: int) -> str:
    """The statement that takes a lock alone, until the transaction ends."""
    return f"SELECT pg_advisory_xact_lock({lock})"


def trying(lock: int) -> str:
    """The statement that takes a lock alone if nobody has it, and tells whether it did."""
    return f"SELECT pg_try_advisory_xact_lock({lock})"
