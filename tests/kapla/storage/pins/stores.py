"""What the tests of pins do to a store of either kind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from eris import ErisError, Reference
from kapla.pins import PinSummary
from kapla.storage.batching import BatchedStorage
from kapla.storage.lending import Lent
from kapla.storage.pinning import OpenPin
from kapla.storage.port import StoreSettings
from kapla.storage.worker import answered
from tests.kapla.storage.databases import batched, get_many, make_blocks, put_many, under_pin

__all__ = [
    "MIB",
    "OTHER",
    "OWNER",
    "Settings",
    "batched",
    "find",
    "lent",
    "lent_within_seconds",
    "list_all",
    "make_blocks",
    "pinned",
    "put",
    "under_pin",
]

MIB = 1 << 20
OWNER, OTHER = 1000, 1001

Settings = Callable[..., StoreSettings]
"""How one store is opened; takes `max_size`, `when_full`, `max_pinned`, `lend_cache`."""


async def put(storage: BatchedStorage, blocks: dict[Reference, bytes]) -> None:
    """Have blocks kept, under no pin."""
    assert await put_many(storage, list(blocks.values())) is None


async def pinned(
    storage: BatchedStorage,
    blocks: dict[Reference, bytes],
    name: str,
    *,
    owner: int = OWNER,
    lend: bool = False,
    keep: bool = True,
) -> PinSummary:
    """Have blocks kept under a pin of their own."""
    pin = await storage.pinning.open(owner)
    await under_pin(storage, list(blocks.values()), pin)
    return await storage.pinning.close(pin, name=name, lend=lend, keep=keep)


async def find(
    storage: BatchedStorage, names: Sequence[Reference], pin: OpenPin | None = None
) -> list[bool]:
    """Ask which blocks are there, under a pin or not."""
    hold = None if pin is None else pin.hold
    return list(await answered(lambda done, _: storage.find_many(names, done, hold=hold)))


async def lent(storage: BatchedStorage, names: Sequence[Reference]) -> list[bool]:
    """Ask, as a stranger, which blocks are there; what is got must be the same."""
    found = list(await answered(lambda done, _: storage.find_many(Lent(names), done)))
    got = await get_many(storage, Lent(names))
    assert not isinstance(got, ErisError)
    assert [block is not None for block in got] == found
    return found


async def lent_within_seconds(
    storage: BatchedStorage, names: Sequence[Reference], expected: Sequence[bool]
) -> None:
    """What is lent becomes this: another process may be told a little later."""
    for _ in range(400):
        found = list(await answered(lambda done, _: storage.find_many(Lent(names), done)))
        if found == list(expected):
            return
        await asyncio.sleep(0.05)
    assert found == list(expected)


async def list_all(storage: BatchedStorage, owner: int | None = OWNER) -> list[PinSummary]:
    """The pins of an owner, or of all."""
    return (await storage.pinning.list(owner, None, 100))[0]
