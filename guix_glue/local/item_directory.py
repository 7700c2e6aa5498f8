"""A directory whose entries count as store items: for trying everything without a store.

An entry named `HASH-NAME` is that item. Any other gets the path that a store would give it for its
content alone, so the same content under the same name has the same path everywhere; for that its
nar has to be hashed before it can be found (`hashing`). `items.toml` (see `item_table.py`) tells
references and derivers. All is looked up when it is asked for: entries may come, go and be replaced
meanwhile. An entry is hashed again when its own inode, size or times change, not those of what is
in it: put directories in place by renaming them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterable
from typing import Final

from eris.threads import in_thread, settle
from guix_glue.errors import GuixError, InvalidItems
from guix_glue.formats.store_path import (
    fixed_output_path,
    hash_part_of,
    is_hash_part,
    is_store_path,
)
from guix_glue.local.hashing import PATIENCE_S, Hasher
from guix_glue.local.item_listing import TABLE, Stamp, is_base_name, list_entries, stamps_of
from guix_glue.local.item_table import NOTHING_SAID
from guix_glue.local.known_hashes import Hashed, KnownHashes
from guix_glue.model import StoreItem

__all__ = ["DirectoryItems"]

_log = logging.getLogger(__name__)

# Looking at so many entries costs something: it is not done for each request, unless some came or
# went, which shows at the directory.
_MANY: Final = 20
_LOOKED_AT_EVERY_S: Final = 1.0
_REMARKS_SHOWN: Final = 20


class DirectoryItems:
    """The entries of `directory` as items of a store at `store_dir`; an `Items`.

    An entry that cannot be an item is left out, and a warning names it. With `known`, hashes are
    kept over restarts. For `patience_s` see `Hasher`.
    Raises: InvalidItems, if the directory or `items.toml` cannot be read at all. What is wrong with
    the latter later is said later, and what it said before holds.
    """

    def __init__(
        self,
        directory: str,
        store_dir: str,
        known: KnownHashes | None = None,
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.store_dir = store_dir
        self._directory = directory
        self._known = known or KnownHashes(None)
        self._hasher = Hasher(
            directory, self._known, self._note, self._complain, patience_s=patience_s
        )
        # Of entries that are not named as items: hash part -> entry, and entry -> base name.
        self._entries: dict[str, str] = {}
        self._base_names: dict[str, str] = {}
        self._said: set[str] = set()
        self._complaints: dict[str, str] = {}
        self._looking = asyncio.Lock()
        self._looked_at = -_LOOKED_AT_EVERY_S
        self._beginning: asyncio.Task[None] | None = None
        self._listing = list_entries(directory)
        self._tell(self._listing.remarks)

    def begin(self) -> None:
        """Hash what is there, in the background."""
        if self._beginning is None:
            self._beginning = asyncio.create_task(self._look_over())

    async def find(self, hash_part: str) -> StoreItem | None:
        """See `Items`.

        Raises: StillHashing; InvalidItems; UnsupportedItem.
        """
        if not is_hash_part(hash_part):
            return None
        item = await self._find_known(hash_part)
        if item is None:
            await self._search(hash_part)
            item = await self._find_known(hash_part)
        return item

    def location(self, item: StoreItem) -> str:
        """See `Items`. Raises: InvalidItems, for an item that is not to be found here."""
        entry = self._entry(item.hash_part)
        if entry is None or self._base_name(entry) != item.base_name:
            raise InvalidItems(f"no entry is known that is {item.base_name}")
        return os.path.join(self._directory, entry)

    async def valid(self, path: str) -> bool:
        """See `Items`. Raises: as `find`."""
        if not is_store_path(path, self.store_dir):
            return False
        item = await self.find(hash_part_of(path))
        return item is not None and item.path == path

    def doubt(self, item: StoreItem) -> None:
        """See `Items`: the entry is hashed again."""
        entry = self._entry(item.hash_part)
        if entry is not None:
            self._hasher.doubt(entry)

    async def close(self) -> None:
        """End hashing, once the pieces in hand are read."""
        await self._hasher.close()
        if self._beginning is not None:
            await settle(self._beginning)

    def _entry(self, hash_part: str) -> str | None:
        return self._listing.by_hash_part.get(hash_part) or self._entries.get(hash_part)

    def _base_name(self, entry: str) -> str | None:
        return entry if is_base_name(entry) else self._base_names.get(entry)

    async def _find_known(self, hash_part: str) -> StoreItem | None:
        entry = self._entry(hash_part)
        item = None if entry is None else await self._describe(entry)
        return item if item is not None and item.hash_part == hash_part else None

    async def _describe(self, entry: str) -> StoreItem | None:
        """What an entry is now; None if it is gone, or not as the last listing says."""
        listing = self._listing
        facts = listing.facts.get(entry, NOTHING_SAID)
        named = [name for name in facts.references if name in listing.entries]
        stamps = await in_thread(stamps_of, self._directory, [TABLE, entry, *named])
        if stamps.get(TABLE) != listing.table or not stamps.keys() >= {entry, *named}:
            return None
        to_hash = {entry, *(name for name in named if not is_base_name(name))}
        hashed = await self._hashed({name: stamps[name] for name in to_hash})
        base_names = {name: self._base_name(name) for name in (entry, *named)}
        if hashed is None or None in base_names.values():
            return None
        references = {base_names.get(reference) or reference for reference in facts.references}
        return StoreItem(
            path=f"{self.store_dir}/{base_names[entry]}",
            nar_hash=hashed[entry].digest,
            nar_size=hashed[entry].size,
            references=tuple(sorted(references)),
            deriver=facts.deriver,
        )

    async def _hashed(self, stamps: dict[str, Stamp]) -> dict[str, Hashed] | None:
        """The hashes of entries with these stamps; None if they were replaced meanwhile."""
        for entry, stamp in stamps.items():
            self._hasher.want(entry, stamp)
        await self._hasher.wait(lambda: not self._hasher.is_busy_with(stamps.keys()))
        found = {entry: self._hasher.known(entry, stamp) for entry, stamp in stamps.items()}
        hashed = {entry: one for entry, one in found.items() if one is not None}
        return hashed if len(hashed) == len(stamps) else None

    async def _search(self, hash_part: str) -> None:
        """Look for the entry that has this hash part, until all others are known."""
        await self._look_over()
        await self._hasher.wait(
            lambda: (
                self._entry(hash_part) is not None
                or not self._hasher.is_busy_with(self._listing.unnamed)
            )
        )

    async def _look_over(self) -> None:
        """See what has changed in the directory, and have it hashed."""
        # One after the other: what was seen by one that is not done yet is not known yet.
        async with self._looking:
            await self._look()

    async def _look(self) -> None:
        listing = self._listing
        stamps = await in_thread(stamps_of, self._directory, [".", TABLE])
        is_same = (stamps.get("."), stamps.get(TABLE)) == (listing.directory, listing.table)
        is_recent = time.monotonic() < self._looked_at + _LOOKED_AT_EVERY_S
        if is_same and is_recent and len(listing.entries) > _MANY:
            return
        if not is_same or not listing.settled:
            await self._list_again()
        stamps = await in_thread(stamps_of, self._directory, self._listing.unnamed)
        for entry, stamp in stamps.items():
            with contextlib.suppress(GuixError):
                self._hasher.want(entry, stamp)
        self._looked_at = time.monotonic()

    async def _list_again(self) -> None:
        self._listing = listing = await in_thread(list_entries, self._directory, self._listing)
        self._tell(listing.remarks)
        self._hasher.forget_others(listing.entries)
        for entry in self._base_names.keys() - listing.entries:
            self._forget(entry)
        self._complaints = {
            entry: text for entry, text in self._complaints.items() if entry in listing.entries
        }
        await in_thread(self._known.forget_others, listing.entries)

    def _note(self, entry: str, hashed: Hashed) -> None:
        """An entry was hashed: now it is known which item it is."""
        self._forget(entry)
        if not is_base_name(entry):
            path = fixed_output_path(self.store_dir, entry, hashed.digest, recursive=True)
            self._base_names[entry] = base_name = path.rpartition("/")[2]
            self._entries[hash_part_of(base_name)] = entry

    def _forget(self, entry: str) -> None:
        base_name = self._base_names.pop(entry, None)
        if base_name is not None and self._entries.get(hash_part_of(base_name)) == entry:
            del self._entries[hash_part_of(base_name)]

    def _tell(self, remarks: Iterable[str]) -> None:
        """Warn of what is left out, once while it stays so."""
        new = [remark for remark in dict.fromkeys(remarks) if remark not in self._said]
        for remark in new[:_REMARKS_SHOWN]:
            _log.warning("%s: %s", self._directory, remark)
        if len(new) > _REMARKS_SHOWN:
            _log.warning("%s: and %d more like this", self._directory, len(new) - _REMARKS_SHOWN)
        self._said = set(remarks)

    def _complain(self, entry: str, error: GuixError) -> None:
        # Whoever asks for one that is named as an item is told what is wrong with it.
        if not is_base_name(entry) and self._complaints.get(entry) != str(error):
            self._complaints[entry] = str(error)
            _log.warning("an entry cannot be an item: %s", error)
