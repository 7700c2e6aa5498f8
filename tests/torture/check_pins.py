"""The pins of a store as they are on its disk, and what is told of them."""

from __future__ import annotations

import sqlite3
from typing import Final

from eris.model import BlockSize, Reference
from kapla.storage.sqlite.writer import SqliteWriter
from tests.torture.history import Fault, Pin, Pins

__all__ = ["pins_of", "stored_pins"]

_MOST: Final = 1000


def pins_of(writer: SqliteWriter, connection: sqlite3.Connection) -> Pins:
    """All pins, with the references of what they hold and lack.

    Raises: Fault, if what is told of them is something else.
    """
    found = stored_pins(writer, connection)
    _check_told(writer, found)
    return found


def stored_pins(writer: SqliteWriter, connection: sqlite3.Connection) -> Pins:
    """As `pins_of`, whatever is told of them.

    Raises: Fault, if they cannot be so.
    """
    names: dict[int, Reference] = {}
    sizes: dict[int, int] = {}
    for block_id, name, size in connection.execute(
        "SELECT id, reference, length(block) FROM blocks"
    ):
        names[block_id], sizes[block_id] = Reference(name), size
    wanted = connection.execute("SELECT pin, reference FROM wanted").fetchall()
    found: Pins = {}
    for pin in writer.pins._rows.all():
        ids = list(pin.ids)
        if pin.sums is None and not names.keys() >= set(ids):
            raise Fault(f"the pin {pin.name} holds what is not there")
        held = frozenset(names[block_id] for block_id in ids if block_id in names)
        large = frozenset(
            names[block_id] for block_id in ids if sizes.get(block_id) == BlockSize.LARGE
        )
        if pin.sums is None and {names[block_id] for block_id in pin.large} != large:
            raise Fault(f"the pin {pin.name} has blocks among those of the other size")
        lacking = frozenset(Reference(name) for number, name in wanted if number == pin.id)
        found[pin.owner, pin.name] = Pin(pin.root, pin.keep, pin.lend, held - large, large, lacking)
    return found


def _check_told(writer: SqliteWriter, pins: Pins) -> None:
    summaries, is_more = writer.pins.page(None, (-1, ""), _MOST)
    if is_more or {(one.owner, one.name) for one in summaries} != pins.keys():
        raise Fault("not all pins are told of")
    for one in summaries:
        pin = pins[one.owner, one.name]
        told = (one.small, one.large, one.missing)
        if told != (len(pin.small), len(pin.large), len(pin.wanted)):
            raise Fault(f"of the pin {one.name} is told {told}: {pin.small=} {pin.large=}")
        others = frozenset[Reference]().union(
            *(other.blocks for key, other in pins.items() if key != (one.owner, one.name))
        )
        own = (len(pin.small - others), len(pin.large - others))
        if (one.own_small, one.own_large) != own:
            raise Fault(f"only the pin {one.name} has {own}, and other numbers are told")
