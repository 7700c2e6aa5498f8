"""The hot statements: written by SQLAlchemy, compiled once, run on SQLite's own connection."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Dialect,
    Integer,
    Select,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite import insert as insert_or_ignore
from sqlalchemy.schema import CreateTable

from kapla.storage.sqlite import schema

__all__ = ["IN_SIZES", "Statements", "statements"]

IN_SIZES: Final = (1, 4, 16, 64, 256)
"""Statements for so many values at once; larger batches take several."""


class Statements:
    """The texts of all statements, for a dialect."""

    def __init__(self, dialect: Dialect) -> None:
        blocks, places, recent = schema.blocks, schema.places, schema.recent
        totals, notes, damaged = schema.totals, schema.upkeep, schema.damaged_places
        at_place = blocks.join(places, blocks.c.id == places.c.block_id)

        def compiled(statement: Any) -> str:
            return str(statement.compile(dialect=dialect))

        def among(statement: Select[Any], column: ColumnElement[int]) -> dict[int, str]:
            found = {}
            for count in IN_SIZES:
                values: list[ColumnElement[int]] = [bindparam(f"p{i}") for i in range(count)]
                found[count] = compiled(statement.where(column.in_(values)))
            return found

        names = select(blocks.c.reference)
        whole = select(blocks.c.reference, blocks.c.block)
        self.name_by_id = among(names, blocks.c.id)
        self.name_by_prefix = among(names.select_from(at_place), places.c.prefix)
        sized = select(blocks.c.reference, blocks.c.id, func.length(blocks.c.block))
        self.sized_by_id = among(sized, blocks.c.id)
        self.sized_by_prefix = among(sized.select_from(at_place), places.c.prefix)
        # The size stands before the block: its pages are not touched.
        self.sized_between = compiled(
            sized.where(blocks.c.id.between(bindparam("first"), bindparam("last")))
        )
        self.block_by_id = among(whole, blocks.c.id)
        self.block_by_prefix = among(whole.select_from(at_place), places.c.prefix)
        kept = select(blocks.c.reference, blocks.c.block, blocks.c.id)
        self.kept_by_id = among(kept, blocks.c.id)
        self.kept_by_prefix = among(kept.select_from(at_place), places.c.prefix)
        named = select(blocks.c.reference, blocks.c.id)
        self.named_by_id = among(named, blocks.c.id)
        self.named_by_prefix = among(named.select_from(at_place), places.c.prefix)
        self.places_by_prefix = among(select(places.c.prefix, places.c.block_id), places.c.prefix)
        self.insert_block = compiled(insert(blocks))
        self.replace_block = compiled(
            update(blocks).where(blocks.c.id == bindparam("at")).values(block=bindparam("whole"))
        )
        self.last_id = compiled(select(func.max(blocks.c.id)))
        self.move_block = compiled(
            insert(blocks).from_select(
                ["id", "reference", "block"],
                select(bindparam("to", type_=Integer), blocks.c.reference, blocks.c.block).where(
                    blocks.c.id == bindparam("at")
                ),
            )
        )
        between = blocks.c.id.between(bindparam("first"), bindparam("last"))
        self.delete_run = compiled(delete(blocks).where(between))
        # The size stands before the block: its pages are not touched.
        self.next_rows = compiled(
            select(blocks.c.id, blocks.c.reference, func.length(blocks.c.block))
            .where(between)
            .order_by(blocks.c.id)
            .limit(bindparam("count"))
        )
        self.last_id_below = compiled(
            select(func.max(blocks.c.id)).where(blocks.c.id < bindparam("below"))
        )

        at_prefix = places.c.prefix == bindparam("prefix")
        self.insert_place = compiled(insert_or_ignore(places).on_conflict_do_nothing())
        self.ids_at = compiled(select(places.c.block_id).where(at_prefix))
        self.damaged_ids_at = compiled(
            select(damaged.c.block_id).where(damaged.c.prefix == bindparam("prefix"))
        )
        self.delete_place = compiled(
            delete(places).where(at_prefix, places.c.block_id == bindparam("block_id"))
        )
        self.places_from = compiled(
            select(places.c.prefix, places.c.block_id)
            .where(places.c.prefix >= bindparam("prefix"))
            .order_by(places.c.prefix)
            .limit(bindparam("count"))
        )
        self.count_places = compiled(select(func.count()).select_from(places))

        self.log = compiled(insert(recent))
        self.read_log = compiled(select(recent).order_by(recent.c.first_id))
        self.logged_bytes = compiled(select(func.sum(func.length(recent.c.prefixes))))
        self.forget_log = compiled(delete(recent).where(recent.c.first_id <= bindparam("last")))

        self.count = compiled(
            update(totals)
            .where(totals.c.block_size == bindparam("size"))
            .values(blocks=totals.c.blocks + bindparam("added"))
        )
        self.totals = compiled(select(totals.c.block_size, totals.c.blocks))
        self.insert_total = compiled(insert(totals))
        self.clear_totals = compiled(delete(totals))

        self.notes = compiled(select(notes.c.note, notes.c.value))
        self.lent = compiled(select(schema.lent.c.ids))
        self.insert_lent = compiled(insert(schema.lent))
        self.clear_lent = compiled(delete(schema.lent))

        self.insert_note = compiled(insert(notes))
        self.delete_note = compiled(delete(notes).where(notes.c.note == bindparam("note")))

        # By the row number alone, so that a large block's other pages are not touched.
        self.scan_below = compiled(
            select(blocks.c.id, blocks.c.reference, func.length(blocks.c.block))
            .where(blocks.c.id < bindparam("below"))
            .order_by(blocks.c.id.desc())
            .limit(bindparam("count"))
        )
        self.scan_one = compiled(
            select(blocks.c.id, blocks.c.reference, func.length(blocks.c.block)).where(
                blocks.c.id == bindparam("id")
            )
        )
        self.list_between = compiled(
            select(blocks.c.id, blocks.c.reference)
            .where(blocks.c.id.between(bindparam("first"), bindparam("last")))
            .order_by(blocks.c.id)
            .limit(bindparam("count"))
        )
        self.create = {
            table.name: compiled(CreateTable(table))
            for table in (
                *(places, recent, totals, notes),
                *(schema.pins, schema.wanted, schema.arrivals, schema.lent),
            )
        }


@cache
def statements() -> Statements:
    """All statements; compiled once, which takes some ten milliseconds."""
    return Statements(sqlite.dialect(paramstyle="qmark"))
