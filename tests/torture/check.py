"""What must hold of a store, whatever was done to it: the storage's own code is asked."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Final

from eris.errors import ErisError
from eris.model import BlockSize, Reference
from kapla.errors import KaplaError
from kapla.storage.sqlite.database import SqliteSettings, open_database
from kapla.storage.sqlite.writer import SqliteReader, SqliteWriter
from tests.torture.check_pins import pins_of
from tests.torture.history import Facts, Fault, History, Pins, Window

__all__ = ["check_file", "check_store"]


# What a cap leaves is no damage, nor that it is near.
_NO_WORRY: Final = ("leaves less than a tenth", "The store has reached ")


class _Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@contextmanager
def _collected() -> Iterator[list[str]]:
    """What the storage warns of meanwhile."""
    handler, logger = _Warnings(), logging.getLogger("kapla")
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated


def check_store(
    settings: SqliteSettings, history: History, window: Window, new: dict[Reference, bytes]
) -> tuple[Facts, set[Reference]]:
    """Open a store after a crash, see what it holds, have it take new blocks.

    Returns which of the allowed facts hold, and the blocks that there are.
    Raises: Fault.
    """
    try:
        with _collected() as warnings:
            database = open_database(settings)
            with (
                closing(SqliteWriter(database)) as writer,
                closing(SqliteReader(database)) as reader,
            ):
                present = _present(reader, history.blocks)
                check_file(writer._connection, present)
                pins = pins_of(writer, writer._connection)
                facts = _matching(history, window, present, pins)
                _check_takes(writer, reader, new)
    except (ErisError, KaplaError, sqlite3.Error) as error:
        raise Fault(f"{type(error).__name__}: {error}") from error
    if worries := [line for line in warnings if not any(text in line for text in _NO_WORRY)]:
        raise Fault(f"damage was told of: {worries[0]}")
    return facts, present


def _present(reader: SqliteReader, known: dict[Reference, bytes]) -> set[Reference]:
    found = reader.get_many(list(known))
    for name, block in found.items():
        if block != known[name]:
            raise Fault("a block is another one than was put")
    return set(found)


def _matching(history: History, window: Window, present: set[Reference], pins: Pins) -> Facts:
    are_blocks_right = False
    for facts in reversed(window.allowed):
        if history.fits(facts, present, is_exact=window.is_exact):
            are_blocks_right = True
            if window.fits_pins(facts, pins):
                return replace(facts, pins=pins)
    if are_blocks_right:
        raise Fault(f"the pins are {_shown(pins)}, and were {_shown(window.allowed[-1].pins)}")
    wanted = window.allowed[0].blocks, window.allowed[-1].blocks
    first = set(history.order[: wanted[0]])
    raise Fault(
        f"{len(present)} blocks are there, and {wanted[0]} to {wanted[1]} were to be:"
        f" {len(first - present)} that were answered are missing"
    )


def _shown(pins: Pins) -> dict[str, str]:
    return {
        f"{owner}:{name}": f"{len(pin.small)}+{len(pin.large)} lacks {len(pin.wanted)}"
        f" {'keep' * pin.keep} {'lend' * pin.lend}"
        for (owner, name), pin in pins.items()
    }


def check_file(connection: sqlite3.Connection, present: set[Reference] | None) -> None:
    """See that a file is sound and its accounts exact; `present`: what its readers find."""
    execute = connection.execute
    if (problems := execute("PRAGMA integrity_check").fetchall()) not in ([("ok",)], [(b"ok",)]):
        raise Fault(f"integrity_check: {problems[0][0]!r}")
    rows = execute("SELECT reference, length(block) FROM blocks").fetchall()
    names = {name for name, _ in rows}
    if len(names) != len(rows):
        raise Fault("a block is there twice")
    if present is not None and names != present:
        raise Fault(f"{len(names)} blocks are stored, and {len(present)} are found")
    counted = {int(size): sum(length == size for _, length in rows) for size in BlockSize}
    totals = dict(execute("SELECT block_size, blocks FROM totals").fetchall())
    if totals != counted:
        raise Fault(f"the totals are {totals}, the blocks {counted}")


def _check_takes(writer: SqliteWriter, reader: SqliteReader, new: dict[Reference, bytes]) -> None:
    refused = writer.put_many(new).refused
    if reader.get_many(list(new)).keys() != new.keys() - refused:
        raise Fault("it does not take new blocks")
