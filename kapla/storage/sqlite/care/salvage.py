"""`kaplad --salvage`: every sound block of a damaged file into a new store, with the pins.

The file is read page by page without SQLite, and is not changed. What cannot be saved is counted.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eris.model import BlockSize
from kapla.errors import StorageError
from kapla.storage.pins import BEFORE_PINS, SALVAGED
from kapla.storage.sqlite.care.check import check
from kapla.storage.sqlite.care.fresh import Fresh
from kapla.storage.sqlite.care.pages import Pages
from kapla.storage.sqlite.care.placing import placing
from kapla.storage.sqlite.care.rescue import Rescued, RescuedPin, rescue
from kapla.storage.sqlite.care.scan import Scan
from kapla.storage.sqlite.keeping.ids import Ids

__all__ = ["Salvaged", "salvage"]

_REFERENCE: Final = 32


@dataclass(slots=True)
class Salvaged:
    """What became of a damaged store."""

    blocks: int = 0
    lost: int = 0
    """Blocks that are known to have been there."""
    lost_pinned: int = 0
    """Of these, in pins."""
    bad_pages: int = 0
    pins: int = 0
    are_pins_whole: bool = True


def salvage(damaged: Path, new: Path) -> Salvaged:
    """Fill a new file with what is sound of a damaged one.

    Raises: StorageError, if either cannot be used; then there is no new file.
    """
    result = Salvaged()
    with placing(new) as partial:
        try:
            with Pages(damaged) as pages, closing(Fresh(partial)) as fresh:
                _fill(Scan(pages), fresh, result)
                is_database = pages.has_header
        except OSError as error:
            raise StorageError(f"cannot read {damaged}: {error.strerror}") from error
        except sqlite3.Error as error:
            raise StorageError(f"cannot write {new}: {error}") from error
        for suffix in ("-wal", "-shm"):
            # Empty by now; nobody has the file open.
            Path(f"{partial}{suffix}").unlink(missing_ok=True)
        if not (result.blocks or is_database):
            raise StorageError(f"there is no block in {damaged}, and it is no database")
        report = check(partial)
        if not report.is_sound:
            raise StorageError(f"what was saved is not sound: {report.findings[0]}")
        os.chmod(partial, 0o600)
    return result


def _fill(scan: Scan, fresh: Fresh, result: Salvaged) -> None:
    for block in scan.blocks():
        fresh.add(block)
    rescued = rescue(scan, lambda reference, pin: _want(fresh, reference, pin))
    pinned = Ids()
    for pin in rescued.pins.values():
        pinned.unite(pin.ids)
    fresh.finish(pinned)
    _write_pins(fresh, rescued, result)
    _count(scan, fresh, rescued, result)


def _write_pins(fresh: Fresh, rescued: Rescued, result: Salvaged) -> None:
    everything = fresh.ids[BlockSize.SMALL] | fresh.ids[BlockSize.LARGE]
    if not rescued.had_pins or not rescued.is_whole:
        _pin_everything(rescued, everything, BEFORE_PINS if not rescued.had_pins else SALVAGED)
    for pin in rescued.pins.values():
        _write_pin(fresh, pin, everything)
    _give_what_is_there(fresh)
    lent = rescued.lent & everything
    if lent:
        fresh.connection.execute("INSERT INTO lent VALUES (1, ?)", (lent.pack(),))
    result.pins = len(rescued.pins)


def _pin_everything(rescued: Rescued, everything: Ids, name: str) -> None:
    if not everything:
        return
    encoded = name.encode()
    for pin in rescued.pins.values():
        if pin.owner == 0 and pin.name == encoded:
            pin.ids.unite(everything)
            pin.keep = 1
            return
    number = max(rescued.pins, default=0) + 1
    rescued.pins[number] = RescuedPin(
        number, 0, encoded, None, 1, 0, int(time.time()), everything.copy()
    )


def _write_pin(fresh: Fresh, pin: RescuedPin, everything: Ids) -> None:
    for block_id in (pin.ids & fresh.moved()) - everything:
        reference = fresh.reference_of_damaged(block_id)
        there = fresh.instead_of(block_id)
        if there is not None:
            pin.ids.add([there])
        elif reference is not None:
            _want(fresh, reference, pin.id)
    for block_id in (pin.ids - fresh.moved()) - everything if pin.is_exact else Ids():
        _want(fresh, _nameless(block_id), pin.id)
    small, large = (pin.ids & fresh.ids[size] for size in BlockSize)
    values = (pin.id, pin.owner, pin.name, pin.root, pin.keep, pin.lend, pin.created)
    fresh.connection.execute(
        "INSERT INTO pins (id, owner, name, root, keep, lend, created, small, large)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*values, small.pack(), large.pack()),
    )


def _give_what_is_there(fresh: Fresh) -> None:
    """What pins lack may have been saved, or was there all along."""
    # Of some the name is not known in full: these never come.
    text = "SELECT reference, pin FROM wanted WHERE length(reference) = ?"
    found = [
        (reference, pin_id, block_id)
        for reference, pin_id in fresh.connection.execute(text, (_REFERENCE,))
        if (block_id := fresh.find(reference)) is not None
    ]
    for reference, pin_id, block_id in found:
        _arrive(fresh, pin_id, block_id)
        fresh.connection.execute(
            "DELETE FROM wanted WHERE reference = ? AND pin = ?", (reference, pin_id)
        )


def _nameless(block_id: int) -> bytes:
    """What stands in `wanted` for a block of which not even the name is known."""
    return b"?" + (block_id & ((1 << 64) - 1)).to_bytes(8, "big")


def _want(fresh: Fresh, reference: bytes, pin_id: int) -> None:
    fresh.connection.execute("INSERT OR IGNORE INTO wanted VALUES (?, ?)", (reference, pin_id))


def _arrive(fresh: Fresh, pin_id: int, block_id: int) -> None:
    for size, ids in fresh.ids.items():
        if block_id in ids:
            fresh.connection.execute(
                "INSERT OR IGNORE INTO arrivals VALUES (?, ?, ?)", (pin_id, block_id, size)
            )


def _count(scan: Scan, fresh: Fresh, rescued: Rescued, result: Salvaged) -> None:
    everything, damaged = fresh.ids[BlockSize.SMALL] | fresh.ids[BlockSize.LARGE], fresh.damaged()
    lacking = Ids()
    for pin in rescued.pins.values():
        # A set over all ids may hold numbers that never were any block's.
        lacking.unite((pin.ids - everything) - fresh.moved() if pin.is_exact else Ids())
        lacking.unite(pin.ids & damaged)
    result.blocks = len(everything)
    result.bad_pages = len(scan.bad)
    result.are_pins_whole = rescued.is_whole
    result.lost_pinned = len(lacking)
    result.lost = max(len(damaged | lacking), rescued.blocks - result.blocks)
