"""The hot statements: written by SQLAlchemy, compiled once for each list of generations.

Each generation is asked for names of its own, `names_1` of the first and so on: where it is known
what one cannot have, it is not looked for there.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Integer,
    LargeBinary,
    Select,
    any_,
    bindparam,
    func,
    literal_column,
    select,
    union_all,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import insert

from kapla.storage.postgresql import schema
from kapla.storage.postgresql.arrays import array_of
from kapla.storage.postgresql.schema import blocks_table

__all__ = ["copy", "everywhere", "fetch", "find", "names_in", "put"]

_DIALECT: Final = postgresql.dialect()  # type: ignore[no-untyped-call]
_BYTES: Final = ARRAY(LargeBinary)
# Some are current, some of a moment ago.
_KEPT: Final = 32
_EPOCH: Final = select(schema.state.c.epoch).scalar_subquery()


def names_in(generation: int) -> str:
    """What the parameter is called that has the names to look for in a generation."""
    return f"names_{generation}"


def everywhere(generations: Sequence[int], names: Sequence[bytes]) -> dict[str, Any]:
    """Parameters that look for names in all of these."""
    array = array_of(names)
    return {names_in(number): array for number in generations}


@lru_cache(_KEPT)
def fetch(generations: tuple[int, ...]) -> bytes:
    """Reference and block of what is there; what is in two generations comes twice."""
    return _compiled(_among(generations, with_block=True))


@lru_cache(_KEPT)
def find(generations: tuple[int, ...]) -> bytes:
    """The references of what is there."""
    return _compiled(_among(generations, with_block=False))


@lru_cache(_KEPT)
def put(into: int, others: tuple[int, ...]) -> bytes:
    """Put `blocks` under `names` into a generation, but for what is there or in another one.

    Nothing is put if the epoch is not `epoch`. What is new is counted, `small` or `large` each.
    Returns the epoch, and how many were new.
    """
    given = (
        func.unnest(bindparam("names", type_=_BYTES), bindparam("blocks", type_=_BYTES))
        .table_valued("reference", "block")
        .render_derived(name="given")
    )
    is_current = bindparam("epoch", type_=BigInteger) == _EPOCH
    chosen = select(given.c.reference, given.c.block).where(is_current)
    new = _into(into, others, chosen).returning(literal_column("1")).cte("new")
    number = func.count(literal_column("*"))
    counts: Any = select(
        literal_column(str(into)),
        number * bindparam("small", type_=Integer),
        number * bindparam("large", type_=Integer),
    )
    counted = (
        insert(schema.added)
        .from_select(
            ["generation", "small", "large"],
            counts.select_from(new).having(number > literal_column("0")),
        )
        .cte("counted")
    )
    return _compiled(
        select(_EPOCH, select(number).select_from(new).scalar_subquery()).add_cte(counted)
    )


@lru_cache(_KEPT)
def copy(source: int, into: int, others: tuple[int, ...]) -> bytes:
    """Put what a generation has of `names` into another one, but for what is there.

    Returns the length of each block that was not there.
    """
    table = blocks_table(source)
    chosen = select(table.c.reference, table.c.block).where(
        table.c.reference == any_(bindparam("names", type_=_BYTES))
    )
    statement = _into(into, others, chosen)
    return _compiled(statement.returning(func.octet_length(blocks_table(into).c.block)))


def _among(generations: Sequence[int], *, with_block: bool) -> Any:
    parts = []
    for number in generations:
        table = blocks_table(number)
        columns = [table.c.reference, table.c.block] if with_block else [table.c.reference]
        names = bindparam(names_in(number), type_=_BYTES)
        parts.append(select(*columns).where(table.c.reference == any_(names)))
    return parts[0] if len(parts) == 1 else union_all(*parts)


def _into(into: int, others: Sequence[int], chosen: Select[Any]) -> Any:
    if others:
        # They are looked up once, and compared with from memory.
        there = _among(others, with_block=False)
        chosen = chosen.where(chosen.selected_columns[0].not_in(there))
    table = blocks_table(into)
    return insert(table).from_select(["reference", "block"], chosen).on_conflict_do_nothing()


def _compiled(statement: Any) -> bytes:
    return str(statement.compile(dialect=_DIALECT)).encode()
