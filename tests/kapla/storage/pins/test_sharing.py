"""What pins share: counted where they are few, else reckoned from a part of it."""

from __future__ import annotations

import asyncio
from functools import partial

from kapla.storage.pins import Sizes
from kapla.storage.postgresql.session import Session
from kapla.storage.postgresql.settings import PostgresSettings
from kapla.storage.postgresql.sharing import Sharing
from tests.kapla.storage.pins.stores import batched, list_all, make_blocks, pinned

COUNT = 4000
PINS = 40


def test_of_many_blocks_a_part_tells_about_all(postgres_url: str) -> None:
    settings = partial(PostgresSettings.of, postgres_url)
    blocks = list(make_blocks(2 * COUNT).items())
    first, second = dict(blocks[:COUNT]), dict(blocks[COUNT // 2 :])

    async def main() -> None:
        async with batched(settings()) as storage:
            await pinned(storage, first, "a", lend=True)
            await pinned(storage, second, "b", keep=False)
            told = [(pin.small, pin.own_small) for pin in await list_all(storage)]
            assert told == [(COUNT, COUNT // 2), (3 * COUNT // 2, COUNT)]
            assert storage.kept() == (2 * COUNT, COUNT, COUNT)

    asyncio.run(main())
    session = Session(settings())
    sharing = Sharing(exact=COUNT)
    session.retried(sharing.look)
    rows = session.retried(
        lambda cursor: cursor.execute("SELECT number FROM pins ORDER BY name").fetchall()
    )
    session.close()
    numbers = [row[0] for row in rows]
    for number, count, expected in zip(numbers, (COUNT, 3 * COUNT // 2), (0.5, 2 / 3), strict=True):
        own = sharing.own(number, Sizes(count, 0))
        assert 0.9 < own.small / count / expected < 1.1
        assert own.large == 0
    assert 0.9 < sharing.kept.pinned / (2 * COUNT) < 1.1


def test_of_many_small_pins_a_part_tells_about_all(postgres_url: str) -> None:
    settings = PostgresSettings.of(postgres_url)
    blocks = list(make_blocks(COUNT).items())
    each = COUNT // PINS

    async def main() -> None:
        async with batched(settings) as storage:
            for number in range(PINS):
                # Each has half of the next one, too.
                start = number * each
                await pinned(storage, dict(blocks[start : start + each * 3 // 2]), f"{number}")

    asyncio.run(main())
    session = Session(settings)
    sharing = Sharing(exact=COUNT)
    session.retried(sharing.look)
    numbers = session.retried(lambda cursor: cursor.execute("SELECT number FROM pins").fetchall())
    session.close()
    assert 0.9 < sharing.kept.pinned / COUNT < 1.1
    own = sum(sharing.own(number, Sizes(each * 3 // 2, 0)).small for (number,) in numbers)
    assert 0.8 < own / (COUNT // 2) < 1.2
