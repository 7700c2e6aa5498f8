"""The hot statements: written by SQLAlchemy, compiled once for each list of generations."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import ARRAY, LargeBinary, Select, any_, bindparam, exists, func, select, union_all
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import insert

from kapla.storage.postgresql.schema import blocks_table

__all__ = ["copy", "fetch", "find", "put"]

_DIALECT: Final = postgresql.dialect()  # type: ignore[no-untyped-call]
_BYTES: Final = ARRAY(LargeBinary)
# Some are current, some of a moment ago.
_KEPT: Final = 32


@lru_cache(_KEPT)
def fetch(generations: tuple[int, ...]) -> bytes:
    """Reference and block of each of `names`; what is in two generations comes twice."""
    return _among(generations, with_block=True)


@lru_cache(_KEPT)
def find(generations: tuple[int, ...]) -> bytes:
    """The references, of `names`, that are there."""
    return _among(generations, with_block=False)


@lru_cache(_KEPT)
def put(into: int, others: tuple[int, ...]) -> bytes:
    """Put `blocks` under `names` into a generation, but for what is there or in another one."""
    given = (
        func.unnest(bindparam("names", type_=_BYTES), bindparam("blocks", type_=_BYTES))
        .table_valued("reference", "block")
        .render_derived(name="given")
    )
    return _into(into, others, select(given.c.reference, given.c.block))


@lru_cache(_KEPT)
def copy(source: int, into: int, others: tuple[int, ...]) -> bytes:
    """Put what a generation has of `names` into another one; see `put`.

    Returns the length of each block that was not there.
    """
    table = blocks_table(source)
    chosen = select(table.c.reference, table.c.block).where(
        table.c.reference == any_(bindparam("names", type_=_BYTES))
    )
    return _into(into, others, chosen, returns_length=True)


def _among(generations: Sequence[int], *, with_block: bool) -> bytes:
    parts = []
    for table in map(blocks_table, generations):
        columns = [table.c.reference, table.c.block] if with_block else [table.c.reference]
        names = bindparam("names", type_=_BYTES)
        parts.append(select(*columns).where(table.c.reference == any_(names)))
    return _compiled(parts[0] if len(parts) == 1 else union_all(*parts))


def _into(
    into: int, others: Sequence[int], chosen: Select[Any], *, returns_length: bool = False
) -> bytes:
    reference = chosen.selected_columns[0]
    for other in map(blocks_table, others):
        chosen = chosen.where(~exists().where(other.c.reference == reference))
    table = blocks_table(into)
    statement = insert(table).from_select(["reference", "block"], chosen).on_conflict_do_nothing()
    if returns_length:
        return _compiled(statement.returning(func.octet_length(table.c.block)))
    return _compiled(statement)


def _compiled(statement: Any) -> bytes:
    return str(statement.compile(dialect=_DIALECT)).encode()
