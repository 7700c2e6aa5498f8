"""Copying a store into another one: all its blocks, and its pins.

Each is a file that nobody uses meanwhile, or a database, which others may use. Blocks come in the
order of the list, and each is hashed before it goes. Those that are there are not copied, so that a
copy that was broken off goes on. A pin is made when the blocks are there. What went again
meanwhile, as in a database that makes room, is copied once more under its pin.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from eris.crypto import reference_of
from eris.model import BlockSize, Reference
from kapla.errors import StorageError
from kapla.pins import PinSummary
from kapla.storage.batching import BatchedStorage
from kapla.storage.pins import BEFORE_PINS, SALVAGED, Hold
from kapla.storage.port import StoreSettings
from kapla.storage.sqlite.holder import Holder
from kapla.storage.sqlite.lock import lock_store, locked
from kapla.storage.worker import Wanted, all_kept, answered
from kapla.store_place import StorePlace
from kapla.store_settings import plain_settings

__all__ = ["Migrated", "migrate"]

# Read, hashed and written together: a megabyte of large blocks. So many of these are under way.
_PART: Final = 32
_AT_ONCE: Final = 8
_PINS: Final = 100
_MADE_BY_DAEMONS: Final = (BEFORE_PINS, SALVAGED)


@dataclass(slots=True)
class Migrated:
    """What was done. Blocks are counted as the list of the source has them."""

    blocks: int = 0
    """Blocks that were copied."""
    bytes: int = 0
    there: int = 0
    """Those that the target had."""
    bad: int = 0
    """Blocks of the source that are not what their references say, or cannot be read."""
    pins: int = 0
    """Pins that were made."""
    pins_there: int = 0
    """Those that the target had."""
    missing: int = 0
    """References of the pins of the source whose blocks it lacks: so does the target."""
    in_the_way: list[str] = field(default_factory=list)
    """Pins that were not made, as the target has others of their names."""


async def migrate(
    source: StorePlace, target: StorePlace, tell: Callable[[int, int], None]
) -> Migrated:
    """Copy a store. `tell` is called with the bytes that are done, about, and with all there are.

    Raises: StorageError, if either cannot be opened, or a file is in use; StoreError; PinNotFound.
    """
    if source == target:
        raise StorageError("these are the same store")
    with ExitStack() as held:
        _hold(held, source, is_new=False)
        _hold(held, target, is_new=True)
        # A mistyped URL must not become a store.
        plain = plain_settings(source, may_make=False)
        async with _opened(plain) as there, _opened(plain_settings(target)) as here:
            copying = _Copying(there, here, tell)
            await copying.copy_blocks()
            await copying.copy_pins()
            return copying.done


def _hold(held: ExitStack, place: StorePlace, *, is_new: bool) -> None:
    """Lock a file. Raises: StorageError."""
    if not isinstance(place, Path):
        return
    if is_new and not place.exists():
        held.callback(os.close, lock_store(place, Holder.myself("kapla")))
    else:
        held.enter_context(locked(place))


@asynccontextmanager
async def _opened(settings: StoreSettings) -> AsyncIterator[BatchedStorage]:
    storage = BatchedStorage(settings)
    try:
        await storage.open()
        yield storage
    finally:
        await storage.close()


class _Copying:
    def __init__(
        self, source: BatchedStorage, target: BatchedStorage, tell: Callable[[int, int], None]
    ) -> None:
        self.done = Migrated()
        # A file is locked.
        self._may_change = source.path is None
        self._source = source
        self._target = target
        self._tell = tell
        self._seen = 0

    async def copy_blocks(self) -> None:
        """All of the list."""
        totals, _ = await self._source.totals()
        count, size = sum(totals.values()), sum(size * count for size, count in totals.items())
        listing = self._source.listing()
        place: int | None = 0
        while place is not None:
            page = await listing.page(place)
            place = page.following
            await _some_at_a_time(self._copy_part, _parts(page.references))
            # Of what was there already the size is not known: all count as the average.
            self._seen = min(self._seen + len(page.references), count)
            self._tell(size * self._seen // max(count, 1), size)

    async def copy_pins(self) -> None:
        """All pins, each with what it is told to lack."""
        known = {(pin.owner, pin.name): pin async for pin in _pins(self._target)}
        async for pin in _pins(self._source):
            self.done.missing += pin.missing
            before = known.get((pin.owner, _name_of(pin)))
            if before is not None and before.root != pin.root:
                self.done.in_the_way.append(pin.name)
            elif before is not None and _is_same(before, pin):
                self.done.pins_there += 1
            else:
                self._check_pin(pin, await self._copy_pin(pin))
                self.done.pins += 1

    async def _copy_part(self, references: Sequence[Reference]) -> None:
        found = await answered(lambda done, _: self._target.find_many(references, done))
        missing = [name for name, is_there in zip(references, found, strict=True) if not is_there]
        blocks = await self._read(missing)
        if blocks:
            # No pin has them yet.
            await all_kept(lambda done, _: self._target.keep(blocks, done, lend=False))
        self.done.there += len(references) - len(missing)
        self.done.bad += len(missing) - len(blocks)
        self.done.blocks += len(blocks)
        self.done.bytes += sum(map(len, blocks.values()))

    async def _read(self, references: Sequence[Reference]) -> dict[Reference, bytes]:
        """Those of these that the source has, and that are what they should be."""
        if not references:
            return {}
        found = await answered(lambda done, _: self._source.get_many(references, done))
        return await asyncio.to_thread(_sound, list(zip(references, found, strict=True)))

    async def _copy_pin(self, pin: PinSummary) -> PinSummary:
        pinning = self._target.pinning
        made = await pinning.open(pin.owner)
        try:
            async for references in self._source.pinning.contents(pin.owner, pin.name):
                there = await pinning.want(made, references)
                gone = [name for name, found in zip(references, there, strict=True) if not found]
                for part in _parts(gone):
                    await self._put_under(made.hold, part)
            return await pinning.close(
                made,
                name=_name_of(pin),
                root=pin.root,
                lend=pin.lend,
                keep=pin.keep,
                incomplete=True,
            )
        except BaseException:
            if pinning.has(made):
                await pinning.abandon(made)
            raise

    async def _put_under(self, hold: Hold, references: Sequence[Reference]) -> None:
        blocks = list((await self._read(references)).values())
        for size in BlockSize:
            some = [block for block in blocks if len(block) == size]
            if some:
                await all_kept(_putting(self._target, some, hold))

    def _check_pin(self, pin: PinSummary, made: PinSummary) -> None:
        """Whether the target has what the source has of it. Raises: StorageError."""
        lacks = made.missing - pin.missing
        if lacks > self.done.bad:
            raise StorageError(
                f"the target lacks {lacks:,} blocks of the pin {made.name} that the source has:"
                " call this again"
            )
        # A file that was salvaged may have pins that lack what nobody knows by name.
        if self._may_change and _held(made) < _held(pin):
            raise StorageError(
                f"the pin {made.name} changed while it was copied, and is not whole: call this"
                " again"
            )


def _putting(
    storage: BatchedStorage, blocks: Sequence[bytes], hold: Hold
) -> Callable[[Callable[[Any], None], Wanted], None]:
    return lambda done, wanted: storage.put_many(blocks, done, wanted, hold=hold)


async def _pins(storage: BatchedStorage) -> AsyncIterator[PinSummary]:
    """All of a store, of all owners."""
    after: str | None = None
    while True:
        found, after = await storage.pinning.list(None, after, _PINS)
        for pin in found:
            yield pin
        if after is None:
            return


def _name_of(pin: PinSummary) -> str:
    """What it is called in the target: what daemons call their own nobody else does."""
    is_made = pin.owner == 0 and pin.name in _MADE_BY_DAEMONS
    return f"{pin.name}-migrated" if is_made else pin.name


def _is_same(one: PinSummary, other: PinSummary) -> bool:
    """Whether two pins of one name hold as much, and in the same way."""
    return (_held(one), one.keep, one.lend) == (_held(other), other.keep, other.lend)


def _held(pin: PinSummary) -> int:
    """How many references it has."""
    return pin.small + pin.large + pin.missing


def _sound(blocks: list[tuple[Reference, bytes | None]]) -> dict[Reference, bytes]:
    return {name: block for name, block in blocks if block and reference_of(block) == name}


def _parts(references: Sequence[Reference]) -> list[Sequence[Reference]]:
    return [references[start : start + _PART] for start in range(0, len(references), _PART)]


async def _some_at_a_time(
    work: Callable[[Sequence[Reference]], Coroutine[Any, Any, None]],
    parts: Sequence[Sequence[Reference]],
) -> None:
    for first in range(0, len(parts), _AT_ONCE):
        running = [asyncio.ensure_future(work(part)) for part in parts[first : first + _AT_ONCE]]
        try:
            await asyncio.gather(*running)
        finally:
            # After an error the others have nobody who waits for them.
            for one in running:
                one.cancel()
