"""All pins are counted anew when that is of use, and not so often that PUTs wait for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kapla.storage.batching import BatchedStorage
from kapla.storage.sqlite.keeping import books
from tests.kapla.storage.databases import batched, make_blocks, settings_for, under_pin

OWNER = 1000


class Clock:
    """Each look takes as long."""

    def __init__(self) -> None:
        self.now = 0.0
        self.step = 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


async def own(storage: BatchedStorage, name: str) -> int:
    found, _ = await storage.pinning.list(OWNER, None, 100)
    (summary,) = [summary for summary in found if summary.name == name]
    return summary.own_small


@pytest.mark.parametrize("is_long", [False, True])
def test_releasing_again_and_again_has_others_wait_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_long: bool
) -> None:
    clock = Clock()
    monkeypatch.setattr(books, "_clock", clock)
    blocks = list(make_blocks(5).values())

    async def main() -> None:
        async with batched(settings_for(tmp_path)) as storage:
            for name in "abc":
                pin = await storage.pinning.open(OWNER)
                await under_pin(storage, blocks, pin)
                await storage.pinning.close(pin, name=name)
            clock.step = 1.0 if is_long else 0.0
            await storage.pinning.release(OWNER, name="a")
            assert await own(storage, "c") == 0
            clock.step = 0.0
            await storage.pinning.release(OWNER, name="b")
            # What is counted is too much for a while, where counting takes long.
            assert await own(storage, "c") == (0 if is_long else 5)
            clock.now += 100
            assert await own(storage, "c") == 5

    asyncio.run(main())
