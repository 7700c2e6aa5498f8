"""A directory whose entries count as store items: for trying everything without a store.

An entry named `HASH-NAME` is that item. Any other gets the path that a store would give it for its
content alone, so the same content under the same name has the same path everywhere; for that its
nar has to be hashed before it can be found. `items.toml` (see `item_table.py`) tells references and
derivers. All is looked up when it is asked for: entries may come, go and be replaced meanwhile. An
entry is hashed again when its own inode, size or times change, not those of what is in it: put
directories in place by renaming them.

Whoever asks for what is not there costs no look at every entry each time: as long as none has come
or gone, such a look is good for a second, and one that cannot be hashed is left alone for a while.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterable
from typing import Final, NamedTuple

from eris.threads import in_thread, settle
from guix_glue.errors import GuixError, InvalidItems, InvalidStorePath
from guix_glue.formats.store_path import (
    check_base_name,
    fixed_output_path,
    hash_part_of,
    is_hash_part,
    is_store_path,
)
from guix_glue.local.archive import nar_hash
from guix_glue.local.item_table import NOTHING_SAID, EntryFacts, parse_item_table
from guix_glue.model import StoreItem

__all__ = ["DirectoryItems"]

_log = logging.getLogger(__name__)

_TABLE: Final = "items.toml"
# A line for each of a hundred thousand entries.
_MAX_TABLE_SIZE: Final = 16 * 1024 * 1024
# Two changes within one tick of the clock of a file system leave the same time behind. No clock is
# coarser than this.
_TICK_NS: Final = 2_000_000_000
# So old may be what is known of entries that were written to in place, and not replaced.
_SEARCH_GOOD_S: Final = 1.0
# What is wrong may be mended deep inside an entry, which does not show in its stamp.
_FAILURE_GOOD_S: Final = 10.0
# One file that is large must not keep all others waiting; more would only share the disk.
_HASHED_AT_ONCE: Final = 2


class _Stamp(NamedTuple):
    """Is another when an entry was replaced or written to."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class _Hashing(NamedTuple):
    """The nar hash of an entry as it was at a stamp, and the nar's size; maybe not known yet."""

    stamp: _Stamp
    result: asyncio.Future[tuple[bytes, int]]


class _Search(NamedTuple):
    """What a look at all entries of a listing gave, good until a time of the loop."""

    listing: _Listing
    until: float
    by_hash_part: dict[str, str]


class _Listing(NamedTuple):
    """What the directory held. `settled` if a later change would show in the stamps."""

    directory: _Stamp | None
    table: _Stamp | None
    settled: bool
    entries: frozenset[str]
    by_hash_part: dict[str, str]
    unnamed: tuple[str, ...]
    facts: dict[str, EntryFacts]


class DirectoryItems:
    """The entries of `directory` as items of a store at `store_dir`; an `Items`.

    Raises: InvalidItems, now, or by `find` if it comes about later, if an entry has a name that no
    item can have, if two have the same hash part, or if `items.toml` is wrong. What was found
    before is found nevertheless.
    """

    def __init__(self, directory: str, store_dir: str) -> None:
        self.store_dir = store_dir
        self._directory = directory
        self._listing = _list(directory)
        self._hashings: dict[str, _Hashing] = {}
        self._hashed_at_once = asyncio.Semaphore(_HASHED_AT_ONCE)
        self._retry_at: dict[str, float] = {}
        self._searching = asyncio.Lock()
        self._searched: _Search | None = None
        self._found: dict[str, str] = {}
        self._locations: dict[str, str] = {}
        self._complaints: set[str] = set()

    async def find(self, hash_part: str) -> StoreItem | None:
        """See `Items`. The first time, this may have to read the whole directory.

        Raises: InvalidItems; UnsupportedItem.
        """
        if not is_hash_part(hash_part):
            return None
        entry = self._found.get(hash_part)
        item = None if entry is None else await self._describe(entry)
        if item is None or item.hash_part != hash_part:
            entry = await self._search(hash_part)
            item = None if entry is None else await self._describe(entry)
        if item is None or entry is None or item.hash_part != hash_part:
            if entry is not None:
                # It is another than it was when all were looked at.
                self._searched = None
            return None
        self._found[hash_part] = entry
        self._locations[item.base_name] = entry
        return item

    def location(self, item: StoreItem) -> str:
        """See `Items`. Raises: InvalidItems, for an item that was never found here."""
        entry = self._locations.get(item.base_name)
        if entry is None:
            raise InvalidItems(f"no entry is known that is {item.base_name}")
        return os.path.join(self._directory, entry)

    async def valid(self, path: str) -> bool:
        """See `Items`. Raises: as `find`."""
        if not is_store_path(path, self.store_dir):
            return False
        item = await self.find(hash_part_of(path))
        return item is not None and item.path == path

    async def close(self) -> None:
        """End hashing, once the files in hand are read."""
        jobs = [hashing.result for hashing in self._hashings.values()]
        for job in jobs:
            job.cancel()
        if jobs:
            await settle(*jobs)
        self._hashings.clear()

    async def _describe(self, entry: str) -> StoreItem | None:
        """What an entry is now; None if it is gone, or not as the last listing says."""
        listing = self._listing
        facts = listing.facts.get(entry, NOTHING_SAID)
        named = [name for name in facts.references if name in listing.entries]
        stamps = await in_thread(_stamps, self._directory, [_TABLE, entry, *named])
        if stamps.get(_TABLE) != listing.table or not stamps.keys() >= {entry, *named}:
            return None
        base_names = {name: await self._base_name(name, stamps[name]) for name in (entry, *named)}
        digest, size = await self._hash(entry, stamps[entry])
        references = {base_names.get(reference, reference) for reference in facts.references}
        return StoreItem(
            path=f"{self.store_dir}/{base_names[entry]}",
            nar_hash=digest,
            nar_size=size,
            references=tuple(sorted(references)),
            deriver=facts.deriver,
        )

    async def _search(self, hash_part: str) -> str | None:
        """Look through the directory for the entry that has this hash part."""
        await self._refresh()
        listing = self._listing
        if hash_part in listing.by_hash_part:
            return listing.by_hash_part[hash_part]
        async with self._searching:
            known = self._searched
            now = asyncio.get_running_loop().time()
            if known is not None and known.listing is listing and now < known.until:
                return known.by_hash_part.get(hash_part)
            return await self._look_at_all(listing, hash_part)

    async def _look_at_all(self, listing: _Listing, hash_part: str) -> str | None:
        by_hash_part: dict[str, str] = {}
        stamps = await in_thread(_stamps, self._directory, listing.unnamed)
        for entry, stamp in stamps.items():
            try:
                base_name = await self._base_name(entry, stamp)
            except GuixError as error:
                self._complain(entry, error)
                continue
            if base_name.startswith(hash_part):
                return entry
            by_hash_part[hash_part_of(base_name)] = entry
        until = asyncio.get_running_loop().time() + _SEARCH_GOOD_S
        self._searched = _Search(listing, until, by_hash_part)
        return None

    async def _refresh(self) -> None:
        listing = self._listing
        stamps = await in_thread(_stamps, self._directory, [".", _TABLE])
        now = (stamps.get("."), stamps.get(_TABLE))
        if not listing.settled or now != (listing.directory, listing.table):
            self._listing = await in_thread(_list, self._directory)
            self._hashings = {
                entry: hashing
                for entry, hashing in self._hashings.items()
                # What is still being read is ended by `close`.
                if entry in self._listing.entries or not hashing.result.done()
            }
            self._retry_at = {
                entry: at for entry, at in self._retry_at.items() if entry in self._hashings
            }

    async def _base_name(self, entry: str, stamp: _Stamp) -> str:
        if _is_base_name(entry):
            return entry
        digest, _ = await self._hash(entry, stamp)
        path = fixed_output_path(self.store_dir, entry, digest, recursive=True)
        return path.rpartition("/")[2]

    async def _hash(self, entry: str, stamp: _Stamp) -> tuple[bytes, int]:
        """The nar hash and size of an entry; whoever asks meanwhile waits for the same reading."""
        known = self._hashings.get(entry)
        if known is None or known.stamp != stamp or self._is_to_be_retried(entry, known):
            known = _Hashing(stamp, asyncio.ensure_future(self._read(entry)))
            # Whoever wanted it may be gone when it fails: asyncio must not complain then.
            known.result.add_done_callback(_has_failed)
            self._hashings[entry] = known
        return await asyncio.shield(known.result)

    def _is_to_be_retried(self, entry: str, known: _Hashing) -> bool:
        now = asyncio.get_running_loop().time()
        return _has_failed(known.result) and now >= self._retry_at.get(entry, now)

    async def _read(self, entry: str) -> tuple[bytes, int]:
        self._retry_at.pop(entry, None)
        async with self._hashed_at_once:
            try:
                return await in_thread(nar_hash, os.path.join(self._directory, entry))
            except (GuixError, OSError) as error:
                now = asyncio.get_running_loop().time()
                self._retry_at[entry] = now + _FAILURE_GOOD_S
                if isinstance(error, OSError):
                    raise InvalidItems(f"cannot read {entry!r}: {error.strerror}") from error
                raise

    def _complain(self, entry: str, error: GuixError) -> None:
        if entry not in self._complaints:
            self._complaints.add(entry)
            _log.warning("an entry cannot be an item: %s", error)


def _list(directory: str) -> _Listing:
    before = time.time_ns()
    stamps = _stamps(directory, [".", _TABLE])
    try:
        entries = frozenset(os.listdir(directory)) - {_TABLE}
    except OSError as error:
        raise InvalidItems(f"cannot read {directory}: {error.strerror}") from error
    by_hash_part: dict[str, str] = {}
    for entry in sorted(entries):
        _check_name(entry)
        if _is_base_name(entry):
            first = by_hash_part.setdefault(hash_part_of(entry), entry)
            if first != entry:
                raise InvalidItems(f"{first} and {entry} have the same hash part")
    return _Listing(
        directory=stamps.get("."),
        table=stamps.get(_TABLE),
        settled=all(stamp.ctime_ns < before - _TICK_NS for stamp in stamps.values()),
        entries=entries,
        by_hash_part=by_hash_part,
        unnamed=tuple(entry for entry in sorted(entries) if not _is_base_name(entry)),
        facts=_read_table(directory, entries),
    )


def _read_table(directory: str, entries: frozenset[str]) -> dict[str, EntryFacts]:
    try:
        with open(os.path.join(directory, _TABLE), "rb") as file:
            text = file.read(_MAX_TABLE_SIZE + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InvalidItems(f"cannot read {_TABLE}: {error.strerror}") from error
    if len(text) > _MAX_TABLE_SIZE:
        raise InvalidItems(f"{_TABLE} is larger than {_MAX_TABLE_SIZE} bytes")
    return parse_item_table(text, entries)


def _check_name(entry: str) -> None:
    if _is_base_name(entry):
        return
    try:
        check_base_name(f"{'0' * 32}-{entry}")
    except InvalidStorePath as error:
        raise InvalidItems(f"the entry {entry!r} cannot be a store item: {error.reason}") from error


def _is_base_name(entry: str) -> bool:
    try:
        check_base_name(entry)
    except InvalidStorePath:
        return False
    return True


def _stamps(directory: str, names: Iterable[str]) -> dict[str, _Stamp]:
    """The stamps of those that are there."""
    found = {}
    for name in names:
        try:
            status = os.lstat(os.path.join(directory, name))
        except OSError:
            continue
        found[name] = _Stamp(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return found


def _has_failed(result: asyncio.Future[tuple[bytes, int]]) -> bool:
    return result.done() and (result.cancelled() or result.exception() is not None)
