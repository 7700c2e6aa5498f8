"""The pins of a damaged file, and what belongs to them.

They are read from their tables, if the file still leads to these. Else whatever has the form of a
pin is taken: its sets have checksums. `is_whole` tells that no pin can be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from eris.model import BlockSize
from kapla.errors import StorageError
from kapla.pins import LONGEST_NAME
from kapla.storage.sqlite.care.records import Kind, Value
from kapla.storage.sqlite.care.scan import DamagedTree, Scan
from kapla.storage.sqlite.keeping.ids import Ids

__all__ = ["Rescued", "RescuedPin", "rescue"]

_TABLES: Final = ("pins", "wanted", "arrivals", "lent")
_REFERENCE: Final = 32

Want = Callable[[bytes, int], None]
"""Takes what a pin lacks: what is called so, and the number of the pin. There may be millions."""


@dataclass(slots=True)
class RescuedPin:
    """A pin as it stood in the file; `ids`: of blocks of either size."""

    id: int
    owner: int
    name: bytes
    root: bytes | None
    keep: int
    lend: int
    created: int
    ids: Ids
    is_exact: bool = True
    """Whether `ids` are those of blocks that there were; else some never were any."""


@dataclass(slots=True)
class Rescued:
    """What there is to be known of pins."""

    want: Want
    pins: dict[int, RescuedPin] = field(default_factory=dict)
    lent: Ids = field(default_factory=Ids)
    blocks: int = 0
    """How many there should be, if that can be read."""
    is_whole: bool = True
    had_pins: bool = True
    """Whether the file is of a version that has pins at all."""


def rescue(scan: Scan, want: Want) -> Rescued:
    """Read all of it, after the blocks of the file were looked at; `want` gets what pins lack."""
    roots = _roots(scan)
    found = Rescued(want)
    if roots is not None and b"totals" in roots:
        _take_table(scan, "totals", roots[b"totals"], found)
    if roots is not None and b"pins" not in roots:
        found.had_pins = b"blocks" not in roots
        found.is_whole = not found.had_pins
        return found
    for name in _TABLES:
        root = None if roots is None else roots.get(name.encode())
        found.is_whole &= root is not None and _take_table(scan, name, root, found)
    if not found.is_whole:
        _take_whatever(scan, found)
        # The list of tables alone may be gone: if all else can be read, so can all pins.
        found.is_whole = roots is None and bool(found.pins) and set(scan.bad) <= {1}
    return found


def _roots(scan: Scan) -> dict[bytes, int] | None:
    """The first pages of all tables; None if the list of these cannot be read."""
    roots = {}
    try:
        for _, values in scan.table(1):
            if len(values) != 5:
                return None
            kind, name, _, root, _ = values
            if kind == b"table" and isinstance(name, bytes) and isinstance(root, int):
                roots[name] = root
    except DamagedTree:
        return None
    return roots or None


def _take_table(scan: Scan, name: str, root: int, found: Rescued) -> bool:
    """Take in a table; returns whether every row of it is sense."""
    is_whole = True
    try:
        for row, values in scan.table(root):
            is_whole &= _take(name, row, values, found)
    except DamagedTree:
        return False
    return is_whole


def _take_whatever(scan: Scan, found: Rescued) -> None:
    for row, values in scan.rows(Kind.TABLE_LEAF):
        for name in ("pins", "lent"):
            _take(name, row, values, found)
    for row, values in scan.rows(Kind.INDEX_LEAF, Kind.INDEX_INNER):
        for name in ("wanted", "arrivals"):
            _take(name, row, values, found)


def _take(name: str, row: int | None, values: list[Value], found: Rescued) -> bool:
    """Take in a row, if it is one of this table."""
    match name, values:
        case "pins", [None, *rest] if row is not None and len(rest) == 10:
            pin = _pin(row, rest)
            if pin is not None and not _has_name(found, pin):
                found.pins.setdefault(row, pin)
            return pin is not None
        case "wanted", [bytes(reference), int(pin_id)] if 0 < len(reference) <= _REFERENCE:
            if pin_id in found.pins:
                found.want(reference, pin_id)
            return True
        case "arrivals", [int(pin_id), int(block_id), int(size)] if size in list(BlockSize):
            if pin_id in found.pins:
                found.pins[pin_id].ids.add([block_id])
            return True
        case "lent", [None, bytes(packed)]:
            ids = _unpack(packed)
            found.lent = found.lent or ids or Ids()
            return ids is not None
        case "totals", [None, int(count)]:
            found.blocks += max(count, 0)
            return True
        case _:
            return False


def _has_name(found: Rescued, pin: RescuedPin) -> bool:
    return any(p.owner == pin.owner and p.name == pin.name for p in found.pins.values())


def _pin(row: int, values: list[Value]) -> RescuedPin | None:
    match values:
        case [
            int(owner),
            bytes(name),
            bytes() | None as root,
            int(keep),
            int(lend),
            int(created),
            int() | None as before,
            int() | None,
            bytes(small),
            bytes(large),
        ] if 0 < len(name) <= LONGEST_NAME and {keep, lend} <= {0, 1}:
            sets = list(_unpack_all(small, large))
            if len(sets) == 2:
                ids, is_exact = sets[0] | sets[1], before is None
                return RescuedPin(row, owner, name, root, keep, lend, created, ids, is_exact)
    return None


def _unpack_all(*packed: bytes) -> Iterator[Ids]:
    for one in packed:
        ids = _unpack(one)
        if ids is not None:
            yield ids


def _unpack(packed: bytes) -> Ids | None:
    try:
        return Ids.unpack(packed)
    except StorageError:
        return None
