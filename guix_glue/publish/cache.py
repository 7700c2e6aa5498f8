"""What was baked, on disk, in a part of the cache directory (see `directory`).

    items/HASH-PART/record      what is known of an item, with a checksum (`records`)
    items/HASH-PART/gzip-3.nar  its nar, one file for each compression and level; none-0.nar is
                                the plain one, of what gains nothing by compression

A record names a file only when that is whole. What is damaged (the sum of the record, the size of a
file) counts as missing and is baked anew. A server that is killed in between leaves files that no
record names; the next one sweeps them away. The time of modification of a record is that of its
last use, for expiry, which itself is none; how long clients were told to rely on it is in it.

Synchronous. Looking up is a dict, or one small file; the rest is for worker threads.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shutil
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

from guix_glue.formats.store_path import is_hash_part
from guix_glue.kept.delta_results import DeltaResult, split_key
from guix_glue.kept.directory import CacheDirectory
from guix_glue.kept.records import (
    Baked,
    BakedFile,
    Destination,
    ErisResult,
    Promise,
    format_record,
    parse_record,
)
from guix_glue.model import StoreItem
from guix_glue.publish.cache_guard import CacheGuard

__all__ = ["BakedCache"]

_log = logging.getLogger(__name__)

_RECORDS_IN_MEMORY: Final = 20_000
"""About 2 KB each: more than the items of a system and its build tools."""
_LARGEST_RECORD: Final = 16 * 1024 * 1024
_USE_NOTED_S: Final = 3600.0
"""A use is noted once in this time, or in a tenth of what is promised: expiry counts in days."""


class BakedCache:
    """What one server has baked; `promise_s` is for how long its clients may ask for that."""

    def __init__(self, directory: CacheDirectory, *, promise_s: int = 0) -> None:
        self._directory = directory
        self._promise_s = promise_s
        self._use_noted_s = min(_USE_NOTED_S, promise_s / 10 or _USE_NOTED_S)
        self._items = directory.subdirectory("items")
        # None: there is no record that can be used.
        self._known: OrderedDict[str, Baked | None] = OrderedDict()
        # Hash part -> when a use was noted on disk, and when it was last used (epoch).
        self._uses: dict[str, tuple[float, float]] = {}
        # Look-ups, on the event loop, never wait for a disk that is being written to.
        self._memory = threading.Lock()
        self._writing = threading.Lock()

    @property
    def path(self) -> Path:
        """Where it is, for messages."""
        return self._directory.path

    def temporary(self) -> Path:
        """A new directory to make things in; whoever asks removes it."""
        return self._directory.temporary()

    def guarded(self, bake: Callable[[StoreItem], Awaitable[None]]) -> CacheGuard[StoreItem]:
        """The same jobs, with an eye on the directory."""
        return CacheGuard(bake, self._directory.path.parent)

    def find(self, hash_part: str) -> Baked | None:
        """What is known of whichever item has this hash part. That is a use of it."""
        with self._memory:
            is_known = hash_part in self._known
            baked = self._known.get(hash_part)
        if baked is not None and not self._has_record(hash_part):
            # The directory has gone since: what is not there is not promised, but baked again.
            self._forget_known(hash_part)
            is_known = False
        if not is_known:
            baked = self._remember(hash_part, self._read(hash_part), replace_known=False)
        if baked is not None:
            self._note_use(hash_part)
        return baked

    def look_at(self, hash_part: str) -> Baked | None:
        """The same from disk, without using it. For worker threads."""
        return self._read(hash_part)

    def recall(self, item: StoreItem) -> Baked | None:
        """What is known of exactly this item: of its path, and of its nar."""
        baked = self.find(item.hash_part)
        if baked is None or (baked.item.path, baked.item.nar_hash) != (item.path, item.nar_hash):
            return None
        # References and deriver are the store's to say: they do not change what was baked.
        return baked if baked.item == item else replace(baked, item=item)

    def open_file(self, baked: Baked, choice: str) -> BinaryIO | None:
        """Open a nar; None, and baked anew later, if it is not what was kept."""
        wanted = baked.file(choice)
        if wanted is None:
            return None
        path = self._file(baked.item.hash_part, choice)
        try:
            file = path.open("rb")
        except OSError as error:
            _log.warning("%s cannot be read: %s", path, error.strerror)
        else:
            found = os.fstat(file.fileno())
            if stat.S_ISREG(found.st_mode) and found.st_size == wanted.size:
                return file
            file.close()
            _log.warning("%s is damaged and will be made anew", path)
        self.drop_file(baked, choice)
        return None

    def drop_file(self, baked: Baked, choice: str) -> None:
        """Forget a nar that turned out to be damaged."""
        with self._writing, contextlib.suppress(OSError):
            now = self._current(baked.item)
            if now is None:
                # It went, or became another, while it was looked up.
                self._remember(baked.item.hash_part, self._read(baked.item.hash_part))
            else:
                rest = tuple(file for file in now.files if file.choice != choice)
                self._write(replace(now, files=rest))

    def is_promised(self, baked: Baked) -> bool:
        """Whether the record says for how long clients may ask for what it names."""
        return baked.promise.age_s == self._promise_s

    def promise(self, baked: Baked) -> None:
        """Note for how long they may; what was promised before holds as long as it said.

        Raises: OSError; LookupError, if the item has gone from the cache meanwhile.
        """
        with self._writing:
            now = self._current(baked.item)
            if now is None:
                raise LookupError("what was baked of this item has gone")
            self._write(now)

    def keep_files(
        self, item: StoreItem, made: Mapping[str, Path], hashes: Mapping[str, bytes] | None = None
    ) -> Baked:
        """Take in nars that lie in a temporary directory, by their choice; and their SHA-256.

        That an item is in the cache says that its nar has the right hash: see to that before.
        Raises: OSError.
        """
        with self._writing:
            before = self._current(item)
            if before is None:
                self._forget(item.hash_part)
            (self._items / item.hash_part).mkdir(parents=True, exist_ok=True)
            files = {file.choice: file for file in before.files} if before is not None else {}
            for choice, path in made.items():
                files[choice] = BakedFile(choice, path.stat().st_size, (hashes or {}).get(choice))
                self._directory.take(path, self._file(item.hash_part, choice))
            kept = Baked(item) if before is None else replace(before, item=item)
            return self._write(replace(kept, files=tuple(files.values())))

    def keep_eris(self, item: StoreItem, result: ErisResult) -> Baked:
        """Note what became of an item that is in the cache already, as ERIS content.

        Raises: OSError; LookupError, if the item has gone from the cache meanwhile.
        """
        with self._writing:
            before = self._current(item)
            if before is None:
                raise LookupError("what was baked of this item has gone")
            return self._write(replace(before, item=item, eris=result.after(before.eris)))

    def keep_delta(
        self, hash_part: str, urn: str | None, store_id: str | None, result: DeltaResult
    ) -> None:
        """Note what became of a delta in a store to an item, if that has this URN still.

        Raises: OSError.
        """
        with self._writing:
            now = self._read(hash_part)
            if now is not None and now.eris is not None and now.eris.urn == urn:
                self._write(replace(now, eris=now.eris.with_delta(store_id, result)))

    def urns(self, wanted: Destination) -> dict[str, str]:
        """The URNs in all records that are for this format and store, by hash part or key."""
        found: dict[str, str] = {}
        for hash_part in self._names():
            baked = self._read(hash_part)
            if baked is not None and baked.eris is not None:
                found |= baked.eris.urns_in(wanted, hash_part)
        return found

    def withdraw_urn(self, key: str) -> None:
        """Note that an item has no URN, whatever there was; or that there is no such delta.

        Raises: OSError.
        """
        hash_part, base = split_key(key)
        with self._writing:
            baked = self._read(hash_part)
            if baked is not None and baked.eris is not None:
                self._write(replace(baked, eris=baked.eris.without(base)))

    def tree(self, hash_part: str) -> tuple[StoreItem, ErisResult | None] | None:
        """What became of an item as ERIS content, without using it. For worker threads."""
        baked = self._read(hash_part)
        return None if baked is None else (baked.item, baked.eris)

    def items(self) -> Iterator[tuple[str, float]]:
        """What is in the cache, by base names, each with when its URN was first computed."""
        for hash_part in self._names():
            baked = self._read(hash_part)
            if baked is not None:
                yield baked.item.base_name, 0.0 if baked.eris is None else baked.eris.baked_at

    def count(self) -> int:
        """How many items are in the cache. For worker threads."""
        return len(self._names())

    def hash_parts(self) -> Iterator[tuple[str, float]]:
        """What is in the cache, each with the time of its last use (seconds of the epoch)."""
        for hash_part in self._names():
            with contextlib.suppress(OSError):
                yield hash_part, self._last_use(hash_part)

    def forget(self, hash_part: str, unused_since: float = math.inf) -> None:
        """Remove all that is kept of an item, unless it was used since that time."""
        with self._writing, contextlib.suppress(OSError):
            if self._last_use(hash_part) < unused_since:
                self._forget(hash_part)

    def sweep(self) -> None:
        """Remove files that no record names, and records that are damaged."""
        for hash_part in self._names():
            with self._writing, contextlib.suppress(OSError):
                baked = _parse(hash_part, self._load(hash_part))
                if baked is None:
                    self._forget(hash_part)
                else:
                    self._remove_others(baked)

    def _names(self) -> list[str]:
        """The directories of items. What else there may be is not ours."""
        return list(filter(is_hash_part, os.listdir(self._items)))

    def _remove_others(self, baked: Baked) -> None:
        hash_part = baked.item.hash_part
        named = {self._file(hash_part, file.choice).name for file in baked.files} | {"record"}
        for name in os.listdir(self._items / hash_part):
            if name not in named:
                with contextlib.suppress(OSError):
                    os.unlink(self._items / hash_part / name)

    def _current(self, item: StoreItem) -> Baked | None:
        """The record on disk, if it is of this very item."""
        baked = self._read(item.hash_part)
        same = baked is not None and (
            (baked.item.path, baked.item.nar_hash) == (item.path, item.nar_hash)
        )
        return baked if same else None

    def _read(self, hash_part: str) -> Baked | None:
        try:
            data = self._load(hash_part)
        except OSError as error:
            _log.warning("The record of %s cannot be read: %s", hash_part, error.strerror)
            return None
        return _parse(hash_part, data)

    def _load(self, hash_part: str) -> bytes:
        """The text of a record; empty if there is none."""
        try:
            with (self._items / hash_part / "record").open("rb") as file:
                return file.read(_LARGEST_RECORD)
        except FileNotFoundError:
            return b""

    def _last_use(self, hash_part: str) -> float:
        noted = (self._items / hash_part / "record").stat().st_mtime
        return max(noted, self._uses.get(hash_part, (0.0, 0.0))[1])

    def _write(self, baked: Baked) -> Baked:
        hash_part = baked.item.hash_part
        path = self._items / hash_part / "record"
        if not self.is_promised(baked):
            baked = replace(baked, promise=Promise(self._promise_s, self._promised_until(baked)))
        self._directory.write(path, format_record(baked))
        self._remember(hash_part, baked)
        return baked

    def _promised_until(self, baked: Baked) -> float:
        try:
            return baked.promise.ends(self._last_use(baked.item.hash_part))
        except FileNotFoundError:
            return baked.promise.until

    def _remember(
        self, hash_part: str, baked: Baked | None, *, replace_known: bool = True
    ) -> Baked | None:
        with self._memory:
            if replace_known or hash_part not in self._known:
                self._known[hash_part] = baked
            self._known.move_to_end(hash_part)
            while len(self._known) > _RECORDS_IN_MEMORY:
                oldest, _ = self._known.popitem(last=False)
                self._uses.pop(oldest, None)
        return baked

    def _has_record(self, hash_part: str) -> bool:
        try:
            os.stat(self._items / hash_part / "record")
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            # Whether it is there cannot be told at the moment.
            return True
        return True

    def _forget_known(self, hash_part: str) -> None:
        with self._memory:
            self._known.pop(hash_part, None)
            self._uses.pop(hash_part, None)

    def _forget(self, hash_part: str) -> None:
        self._forget_known(hash_part)
        directory = self._items / hash_part
        # First what says that there is anything.
        with contextlib.suppress(OSError):
            (directory / "record").unlink()
        shutil.rmtree(directory, ignore_errors=True)

    def _note_use(self, hash_part: str) -> None:
        now = time.time()
        noted, _ = self._uses.get(hash_part, (0.0, 0.0))
        if now - noted >= self._use_noted_s:
            noted = now
            with contextlib.suppress(OSError):
                os.utime(self._items / hash_part / "record")
        with self._memory:
            # Not of what was pushed out of memory meanwhile: nothing would remove it any more.
            if hash_part in self._known:
                self._uses[hash_part] = noted, now

    def _file(self, hash_part: str, choice: str) -> Path:
        return self._items / hash_part / f"{choice.replace(':', '-')}.nar"


def _parse(hash_part: str, data: bytes) -> Baked | None:
    baked = parse_record(data)
    if baked is not None and baked.item.hash_part == hash_part:
        return baked
    if data:
        _log.warning("The record of %s is damaged: the item will be baked anew", hash_part)
    return None
