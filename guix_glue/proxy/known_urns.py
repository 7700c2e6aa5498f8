"""Which URNs were found to be an item, and which to be something else: kept on disk.

    urns/HASH-PART.NAR-HASH    trees that are the item, and digests of those that are not; checked

The hash in the name (its first half, in hex) is that of the nar: a URN is right or wrong for one
nar. A content never changes, so what was found out stays true; wrong ones are looked at again after
a month all the same, since it may have been our reading that was wrong. A file that is damaged
counts as missing. Of all items those are kept that were noted last.

A URN is a read capability: it is in these files, which nobody else may read, and in no log.
Synchronous, for worker threads.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final

from eris.capability import ReadCapability
from guix_glue.kept.directory import CacheDirectory
from guix_glue.local.files import read_file
from guix_glue.model import StoreItem
from guix_glue.proxy.item_urns import NO_URNS, ItemUrns, format_urns, parse_urns

__all__ = ["KnownUrns"]

_DIGITS: Final = 32
_LARGEST: Final = 16 * 1024
_MOST_FILES: Final = 50_000
_GO_AT_ONCE: Final = 1_000
_IN_MEMORY: Final = 2_000


class KnownUrns:
    """What was found out of items."""

    def __init__(self, directory: CacheDirectory, *, most: int = _MOST_FILES) -> None:
        """At most about `most` items are kept. Raises: PublishError."""
        self._directory = directory
        self._path = directory.subdirectory("urns")
        self._most = most
        self._guard = threading.Lock()
        self._recent: OrderedDict[str, ItemUrns] = OrderedDict()
        # None: not counted yet.
        self._count: int | None = None

    def find(self, item: StoreItem) -> ItemUrns:
        """What is known of an item."""
        with self._guard:
            return self._find(_name(item))

    def note_good(self, item: StoreItem, capability: ReadCapability) -> None:
        """A tree was found to be the item. Raises: OSError, if only this process knows it."""
        self._change(item, lambda urns: urns.with_good(capability))

    def note_wrong(self, item: StoreItem, capability: ReadCapability) -> None:
        """A content was found to be something else. Raises: OSError, as `note_good`."""
        self._change(item, lambda urns: urns.with_wrong(capability, time.time()))

    def note_doubted(self, item: StoreItem, capability: ReadCapability) -> None:
        """A content may be something else. Raises: OSError, as `note_good`."""
        self._change(item, lambda urns: urns.with_doubted(capability, time.time()))

    def expire(self, before: float) -> None:
        """Forget items of which nothing was noted since a time (seconds of the epoch).

        Raises: OSError.
        """
        with self._guard:
            for path, modified in self._files():
                if modified < before:
                    path.unlink(missing_ok=True)
            self._count = None
            self._recent.clear()

    def _change(self, item: StoreItem, change: Callable[[ItemUrns], ItemUrns]) -> None:
        name = _name(item)
        with self._guard:
            known = self._find(name)
            changed = change(known)
            if changed == known:
                return
            self._remember(name, changed)
            self._make_room()
            self._directory.write(self._path / name, format_urns(changed))

    def _find(self, name: str) -> ItemUrns:
        known = self._recent.get(name)
        if known is None:
            known = self._read(name)
            self._remember(name, known)
        return known

    def _remember(self, name: str, known: ItemUrns) -> None:
        self._recent[name] = known
        self._recent.move_to_end(name)
        if len(self._recent) > _IN_MEMORY:
            self._recent.popitem(last=False)

    def _read(self, name: str) -> ItemUrns:
        try:
            return parse_urns(read_file(self._path / name, _LARGEST))
        except OSError:
            return NO_URNS

    def _make_room(self) -> None:
        """Before a file is written that may be new, remove the oldest if they are too many."""
        if self._count is None or self._count >= self._most:
            files = sorted(self._files(), key=lambda one: one[1])
            excess = len(files) - self._most
            gone = excess + min(_GO_AT_ONCE, self._most // 4) if excess >= 0 else 0
            for path, _ in files[:gone]:
                path.unlink(missing_ok=True)
            self._count = len(files) - gone
        self._count += 1

    def _files(self) -> list[tuple[Path, float]]:
        found = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self._path) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    modified = entry.stat(follow_symlinks=False).st_mtime
                    found.append((Path(entry.path), modified))
        return found


def _name(item: StoreItem) -> str:
    return f"{item.hash_part}.{item.nar_hash.hex()[:_DIGITS]}"
