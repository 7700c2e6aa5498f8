"""Listing a store: every block once, in the order of arrival, whatever the store went through."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

from eris import BlockSize, Reference
from kapla.storage.listing import Pages
from kapla.storage.port import Page
from kapla.storage.sqlite.listing import PAGE, pages_of
from kapla.storage.sqlite.schema import LOWEST_ID
from tests.kapla.storage.databases import make_blocks, opened, settings_for


def fill(directory: Path, blocks: dict[Reference, bytes]) -> None:
    with opened(settings_for(directory)) as store:
        store.writer.put_many(blocks)


def pages(directory: Path) -> list[list[Reference]]:
    async def read() -> list[list[Reference]]:
        listing = pages_of(settings_for(directory))
        found: list[list[Reference]] = []
        place: int | None = 0
        while place is not None:
            references, place = await listing.page(place)
            found.append(references)
            assert len(found) < 1000
        return found

    return asyncio.run(read())


def listed(directory: Path) -> list[Reference]:
    return [reference for page in pages(directory) for reference in page]


def test_every_block_is_listed_in_pages_in_the_order_of_arrival(tmp_path: Path) -> None:
    blocks = make_blocks(2 * PAGE + 7)
    fill(tmp_path, blocks)
    found = pages(tmp_path)
    assert list(map(len, found)) == [PAGE, PAGE, 7, 0]
    assert listed(tmp_path) == list(blocks)


def test_an_empty_store_has_an_empty_list(tmp_path: Path) -> None:
    fill(tmp_path, {})
    assert pages(tmp_path) == [[]]


def test_what_came_while_it_was_listed_is_behind_what_was_there(tmp_path: Path) -> None:
    first, later = make_blocks(PAGE), make_blocks(10, seed=1)

    async def read() -> None:
        listing = pages_of(settings_for(tmp_path))
        with opened(settings_for(tmp_path)) as store:
            store.writer.put_many(first)
            references, place = await listing.page(0)
            assert references == list(first)
            assert place is not None
            store.writer.put_many(later)
            references, place = await listing.page(place)
            assert references == list(later)

    asyncio.run(read())


def test_what_a_turned_store_has_below_zero_came_last(tmp_path: Path) -> None:
    blocks = make_blocks(PAGE + 20)
    fill(tmp_path, blocks)
    with closing(sqlite3.connect(tmp_path / "blocks.sqlite")) as connection, connection:
        connection.execute(
            "UPDATE blocks SET id = ? + id WHERE id > ?", (LOWEST_ID - PAGE + 10, PAGE - 10)
        )
    assert listed(tmp_path) == list(blocks)


def break_page(path: Path, reference: Reference) -> None:
    """Make a page of the table something that is none."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        at = file.read().index(reference)
        file.seek(at - at % page_size)
        file.write(b"\xff" * 100)


def test_a_damaged_page_hides_only_what_is_on_it(tmp_path: Path) -> None:
    blocks = make_blocks(PAGE + 100)
    references = list(blocks)
    fill(tmp_path, blocks)
    break_page(tmp_path / "blocks.sqlite", references[500])
    found = listed(tmp_path)
    assert references[500] not in found
    assert found == [reference for reference in references if reference in set(found)]
    assert len(found) > len(references) - 20


def test_a_list_ends_though_the_last_page_is_damaged(tmp_path: Path) -> None:
    blocks = make_blocks(300)
    references = list(blocks)
    fill(tmp_path, blocks)
    break_page(tmp_path / "blocks.sqlite", references[-1])
    found = listed(tmp_path)
    assert found == references[: len(found)]
    assert len(found) > len(references) - 20


def test_blocks_of_both_sizes_are_listed(tmp_path: Path) -> None:
    blocks = {**make_blocks(5), **make_blocks(5, BlockSize.LARGE)}
    fill(tmp_path, blocks)
    assert set(listed(tmp_path)) == set(blocks)


def test_a_question_that_was_given_up_does_not_hold_up_the_next(tmp_path: Path) -> None:
    blocks = make_blocks(3)
    fill(tmp_path, blocks)

    async def read() -> None:
        listing = pages_of(settings_for(tmp_path))
        given_up = asyncio.ensure_future(listing.page(0))
        await asyncio.sleep(0)
        given_up.cancel()
        assert (await listing.page(0)).references == list(blocks)

    asyncio.run(read())


def test_a_page_that_was_given_up_is_read_to_its_end_before_another_one() -> None:
    """Else whoever asks and goes has as many read at once as there are threads."""
    begun, may_end, said = threading.Event(), threading.Event(), list[str]()

    def read_page(start: int) -> Page:
        said.append(f"{start} begins")
        begun.set()
        assert may_end.wait(30)
        said.append(f"{start} ends")
        return Page([], None)

    async def read() -> None:
        listing = Pages(read_page)
        given_up, other = (asyncio.ensure_future(listing.page(start)) for start in (0, 1))
        assert await asyncio.to_thread(begun.wait, 30)
        given_up.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not given_up.done()
        may_end.set()
        await other
        assert given_up.cancelled()

    asyncio.run(read())
    assert said == ["0 begins", "0 ends", "1 begins", "1 ends"]
