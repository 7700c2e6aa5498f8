"""What a directory of items holds: names, and what `items.toml` says of them.

One odd entry is never in the way of the others: a name that no item can have, a second entry with
the same hash part and a table that is wrong leave out that entry, and a remark says so. What stores
put beside their items (`.links`, lock files, roots of builds) is passed over without a word.

Synchronous, for a worker thread.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable
from typing import Final, NamedTuple

from guix_glue.errors import InvalidItems, InvalidStorePath
from guix_glue.formats.store_path import check_base_name, hash_part_of
from guix_glue.local.files import open_regular
from guix_glue.local.item_table import EntryFacts, ItemTable, parse_item_table

__all__ = ["TABLE", "Listing", "Stamp", "is_base_name", "list_entries", "stamps_of"]

TABLE: Final = "items.toml"
# A line for each of a hundred thousand entries.
_MAX_TABLE_SIZE: Final = 16 * 1024 * 1024
# Two changes within one tick of the clock of a file system leave the same time behind. No clock is
# coarser than this.
_TICK_NS: Final = 2_000_000_000
# The daemons' own: what files with the same content are linked to, what is being deleted.
_OF_STORES: Final = frozenset({".links", "trash"})


class Stamp(NamedTuple):
    """Is another when an entry was replaced or written to."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class Listing(NamedTuple):
    """What the directory held. `settled` if a later change would show in the stamps.

    `entries` are all that may be referred to; `by_hash_part` and `unnamed` those that are served.
    `remarks` tell what is left out, a sentence each.
    """

    directory: Stamp | None
    table: Stamp | None
    settled: bool
    entries: frozenset[str]
    left_out: frozenset[str]
    by_hash_part: dict[str, str]
    unnamed: frozenset[str]
    facts: dict[str, EntryFacts]
    remarks: tuple[str, ...]


def list_entries(directory: str, before: Listing | None = None) -> Listing:
    """Read the directory and its table.

    With a table of which it cannot be told which entry some of it is about, or of which nothing can
    be understood, all are left out that have no table of their own. With a listing from `before`,
    what that says still holds, and only what came since is left out.
    Raises: InvalidItems, if the directory cannot be read.
    """
    started_ns = time.time_ns()
    stamps = stamps_of(directory, [".", TABLE])
    try:
        found = sorted(set(os.listdir(directory)) - {TABLE})
    except OSError as error:
        raise InvalidItems(f"cannot read {directory}: {error.strerror}") from error
    remarks: list[str] = []
    entries = frozenset(name for name in found if _counts(directory, name, remarks))
    named = _by_hash_part(sorted(filter(is_base_name, entries)), remarks)
    table = _table(directory, entries, before)
    return Listing(
        directory=stamps.get("."),
        table=stamps.get(TABLE),
        settled=all(stamp.ctime_ns < started_ns - _TICK_NS for stamp in stamps.values()),
        entries=entries,
        left_out=table.wrong,
        by_hash_part={part: name for part, name in named.items() if name not in table.wrong},
        unnamed=frozenset(
            name for name in entries if name not in table.wrong and not is_base_name(name)
        ),
        facts=dict(table.facts),
        remarks=(*remarks, *table.remarks),
    )


def is_base_name(entry: str) -> bool:
    """Whether an entry is named as an item."""
    try:
        check_base_name(entry)
    except InvalidStorePath:
        return False
    return True


def stamps_of(directory: str, names: Iterable[str]) -> dict[str, Stamp]:
    """The stamps of those that are there."""
    found = {}
    for name in names:
        try:
            status = os.lstat(os.path.join(directory, name))
        except OSError:
            continue
        found[name] = Stamp(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )
    return found


def _counts(directory: str, entry: str, remarks: list[str]) -> bool:
    if entry in _OF_STORES:
        return False
    if is_base_name(entry):
        return not _is_work_of_a_store(directory, entry)
    try:
        check_base_name(f"{'0' * 32}-{entry}")
    except InvalidStorePath as error:
        remarks.append(f"the entry {entry!r} cannot be a store item: {error.reason}")
        return False
    return True


def _is_work_of_a_store(directory: str, entry: str) -> bool:
    """Whether it is a lock file of a daemon, or the root of a build that is under way."""
    if entry.endswith(".drv.chroot"):
        return True
    if not entry.endswith(".lock"):
        return False
    try:
        status = os.lstat(os.path.join(directory, entry))
    except OSError:
        return True
    # `yarn.lock` is a name like any other. But a lock file holds nothing or one letter, and is
    # for its owner alone to read and write, as no item is.
    mode = status.st_mode
    return stat.S_ISREG(mode) and status.st_size <= 1 and stat.S_IMODE(mode) == 0o600


def _by_hash_part(named: list[str], remarks: list[str]) -> dict[str, str]:
    by_hash_part: dict[str, str] = {}
    for entry in named:
        first = by_hash_part.setdefault(hash_part_of(entry), entry)
        if first != entry:
            remarks.append(f"{first} and {entry} have the same hash part: {entry} is left out")
    return by_hash_part


def _table(directory: str, entries: frozenset[str], before: Listing | None) -> ItemTable:
    try:
        table = _read_table(directory, entries)
        if not table.doubtful:
            return table
        remarks = table.remarks
    except InvalidItems as error:
        table, remarks = ItemTable(), (str(error),)
    if before is None:
        unknown = (entries - table.facts.keys()) | table.wrong
        remarks = (*remarks, f"{TABLE}: what has no table of its own there is left out")
        return ItemTable(table.facts, unknown, remarks=remarks)
    facts = {name: said for name, said in before.facts.items() if name in entries}
    unknown = (before.left_out & entries) | (entries - before.entries)
    remarks = (*remarks, f"{TABLE}: what it said before still holds, and what is new is left out")
    return ItemTable(facts, unknown, remarks=remarks)


def _read_table(directory: str, entries: frozenset[str]) -> ItemTable:
    try:
        with open(open_regular(os.path.join(directory, TABLE)), "rb") as file:
            text = file.read(_MAX_TABLE_SIZE + 1)
    except FileNotFoundError:
        return ItemTable()
    except OSError as error:
        raise InvalidItems(f"cannot read {TABLE}: {error.strerror or error}") from error
    if len(text) > _MAX_TABLE_SIZE:
        raise InvalidItems(f"{TABLE} is larger than {_MAX_TABLE_SIZE} bytes")
    return parse_item_table(text, entries)
