"""Contents that need not be encoded again: known to a cache, and still whole in the store.

A cache maps a key of content (a hash far cheaper than encoding) to what it became. That is believed
only when the store says that it has every block. A store that cannot say so, or a cache that knows
nothing, costs no more than the asking.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, Final, Protocol

from eris.capability import ReadCapability
from eris.errors import InvalidCapability, StoreError
from eris.model import REFERENCE_SIZE, Hole, Reference
from eris.store import BlockFinder
from eris.threads import in_thread
from eris_fs.batch import Batch, Known
from eris_fs.open_file import OpenFile

__all__ = ["ContentCache", "Known", "KnownContents", "update_key"]

_log = logging.getLogger(__name__)

_STEP: Final = 1024 * 1024
_ZEROS: Final = bytes(_STEP)
# Noted at a time: each time the cache's file is locked, and pages of its index are written that the
# next ones change again.
_NEWS: Final = 512
# Read in one call of a thread, which nothing can interrupt.
_CALL: Final = 32 * _STEP


class ContentCache(Protocol):
    """What was encoded before, with the secret and block size now in use. For worker threads."""

    def content_key(self, content: bytes) -> bytes:
        """The key of a content in memory."""

    def start_key(self) -> Any:
        """Begin the key of a content in pieces: `update(piece)`, then `digest()`."""

    def recall(self, keys: Sequence[bytes]) -> Sequence[Known | None]:
        """What contents became; None for each that is not known."""

    def remember(self, contents: Sequence[tuple[bytes, Known]]) -> None:
        """Note what contents became."""


class KnownContents:
    """A cache, as far as a store bears it out."""

    def __init__(self, cache: ContentCache, store: BlockFinder) -> None:
        self._cache = cache
        self._store = store
        self._usable = True
        # What is to be noted.
        self._news: list[tuple[bytes, Known]] = []
        self.asked = self.confirmed = 0
        """Contents that were looked up so far, and those that need not be encoded."""

    @property
    def usable(self) -> bool:
        """Whether looking things up is worth it: not when the store did not tell what it has."""
        return self._usable

    async def find(self, references: Sequence[Reference]) -> list[bool]:
        """Which blocks the store has: see `eris.store.BlockFinder`."""
        return await self._store.find(references)

    def recall_batch(self, batch: Batch) -> None:
        """Look the files of a batch up in the cache; for the worker thread that read them."""
        if self._usable:
            contents = [content for _, _, content in batch.files]
            batch.keys, batch.recalled = _recall(self._cache, contents)
            self.asked += len(contents)

    async def confirm_batch(self, batch: Batch) -> dict[int, ReadCapability]:
        """Which files of a batch, by place, need not be encoded: the store has all their blocks."""
        known = {place: found for place, found in enumerate(batch.recalled) if found is not None}
        return await self._confirmed(known)

    async def look_up_file(self, file: OpenFile) -> tuple[bytes, ReadCapability | None]:
        """The key of a large file, and its capability if it need not be encoded.

        The file is read once, and stands at its beginning afterwards.
        """
        state = self._cache.start_key()
        while await in_thread(_hash_some, state, file):
            pass
        key: bytes = state.digest()
        (recalled,) = await in_thread(self._cache.recall, [key])
        self.asked += 1
        if recalled is None:
            return key, None
        return key, (await self._confirmed({0: recalled})).get(0)

    def start_key(self) -> Any:
        """Begin the key of a content in pieces: `update(piece)`, then `digest()`."""
        return self._cache.start_key()

    async def remember(self, contents: Sequence[tuple[bytes, Known]]) -> None:
        """Note what was encoded now."""
        if self._usable and contents:
            await in_thread(self._cache.remember, contents)

    async def note(self, contents: Sequence[tuple[bytes, Known]]) -> None:
        """As `remember`, but some hundred of them at a time, and the last ones by `settle`."""
        self._news += contents
        if len(self._news) >= _NEWS:
            await self.settle()

    async def settle(self) -> None:
        """Note what is left to be noted."""
        news, self._news = self._news, []
        await self.remember(news)

    async def recall(self, contents: Sequence[bytes]) -> tuple[list[bytes], list[Known | None]]:
        """The keys of contents in memory, and what the cache has of each; nothing if not usable."""
        if not self._usable:
            return [], []
        self.asked += len(contents)
        return await in_thread(_recall, self._cache, contents)

    async def confirm(self, wanted: Mapping[int, Sequence[Reference]]) -> set[int]:
        """Ask the store of which of these it has every block."""
        references = list(set(chain.from_iterable(wanted.values())))
        try:
            found = await self._store.find(references) if references else []
        except StoreError as error:
            # The error may name the store's URL, which is not for every log.
            _log.info("The store does not tell what it has, so all is encoded")
            _log.debug("It does not tell: %s", error)
            self._usable = False
            return set()
        missing = {one for one, there in zip(references, found, strict=True) if not there}
        there = {place for place, asked in wanted.items() if missing.isdisjoint(asked)}
        self.confirmed += len(there)
        return there

    async def _confirmed(self, known: dict[int, Known]) -> dict[int, ReadCapability]:
        there = await self.confirm(
            {place: list(_split(found[1])) for place, found in known.items()}
        )
        capabilities = {}
        for place in there:
            with suppress(InvalidCapability):
                capabilities[place] = ReadCapability.from_bytes(known[place][0])
        return capabilities


def _recall(
    cache: ContentCache, contents: Sequence[bytes]
) -> tuple[list[bytes], list[Known | None]]:
    keys = [cache.content_key(content) for content in contents]
    return keys, list(cache.recall(keys))


def update_key(state: Any, piece: bytes | Hole) -> None:
    """Add a piece to the key of a content: a hole as the zeros that it stands for."""
    if not isinstance(piece, Hole):
        state.update(piece)
        return
    for start in range(0, piece, _STEP):
        state.update(_ZEROS[: piece - start])


def _hash_some(state: Any, file: OpenFile) -> bool:
    """Add what comes next of a file; at the end False, and the file stands at its beginning."""
    size = 0
    while size < _CALL:
        piece = file.read_piece(_STEP)
        if not piece:
            file.rewind()
            return False
        update_key(state, piece)
        size += int(piece) if isinstance(piece, Hole) else len(piece)
    return True


def _split(references: bytes) -> Iterable[Reference]:
    for start in range(0, len(references), REFERENCE_SIZE):
        yield Reference(references[start : start + REFERENCE_SIZE])
