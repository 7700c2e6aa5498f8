"""What is kept leaves no half empty pages that nobody else has room in."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from eris import Reference
from kapla.storage.batching import BatchedStorage
from kapla.storage.pinning import OpenPin
from tests.kapla.storage.backends import keeping_of
from tests.kapla.storage.databases import (
    batched,
    get_many,
    make_blocks,
    put_many,
    settings_for,
    under_pin,
)
from tests.kapla.storage.keeping.stores import stored_bytes

OWNER, OTHER = 1000, 1001
MIB = 1 << 20


async def interleave(storage: BatchedStorage, pin: OpenPin, count: int) -> dict[Reference, bytes]:
    """Every other block comes under the pin; returns these."""
    mine = make_blocks(count)
    mine_left, others = list(mine.values()), list(make_blocks(count, seed=1).values())
    while mine_left:
        await asyncio.gather(
            *(
                coming
                for _ in range(min(32, len(mine_left)))
                for coming in (
                    under_pin(storage, [mine_left.pop()], pin),
                    put_many(storage, [others.pop()]),
                )
            )
        )
    return mine


def test_who_pins_a_share_between_what_goes_leaves_room_to_others(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, max_size=8 * MIB, generation=256)

    async def main() -> None:
        async with batched(settings) as storage:
            closed, held = [await storage.pinning.open(OWNER) for _ in range(2)]
            mine = await interleave(storage, closed, 3800)
            await storage.pinning.close(closed, name="a", lend=True)
            assert all(await storage.pinning.want(held, list(mine)[:100]))
            other = await storage.pinning.open(OTHER)
            content = make_blocks(other.room // 1024, seed=2)
            assert len(content) > 1600
            blocks = list(content.values())
            for start in range(0, len(blocks), 16):
                await under_pin(storage, blocks[start : start + 16], other)
                assert stored_bytes(settings) < 10 * MIB
            await storage.pinning.close(other, name="b")
            await storage.pinning.abandon(held)
            everything = mine | content
            assert await get_many(storage, list(everything)) == list(everything.values())
            await check(storage, settings.path, set(everything))
        async with batched(settings) as storage:
            assert await get_many(storage, list(mine)) == list(mine.values())
            await check(storage, settings.path, set(everything))

    asyncio.run(main())


async def check(storage: BatchedStorage, path: Path, pinned: set[Reference]) -> None:
    """The pins have what they had, and what is told of the store is so."""
    found, _ = await storage.pinning.list(None, None, 10)
    assert [(pin.name, pin.small, pin.own_small, pin.missing) for pin in found] == [
        ("a", 3800, 3800, 0),
        ("b", len(pinned) - 3800, len(pinned) - 3800, 0),
    ]
    with closing(sqlite3.connect(path)) as connection:
        rows = dict(connection.execute("SELECT id, reference FROM blocks"))
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert {rows[block_id] for block_id in keeping_of(storage).kept} == pinned
    assert len(keeping_of(storage).kept) == len(pinned)
    assert len(keeping_of(storage).lent) == 3800
    assert sum((await storage.totals())[0].values()) == len(rows)
