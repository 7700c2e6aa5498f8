"""A seed follows what there is: a store's database, its garbage collector, a person's directory."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from guix_glue.kept.public_items import PublicItems
from guix_glue.local.archive import nar_hash
from guix_glue.local.store_db import StoreDatabase
from guix_glue.seed.asking import Known
from guix_glue.seed.consent import Consent, Say
from guix_glue.seed.index import SeedIndex
from guix_glue.seed.roots import PinnedRoots
from guix_glue.seed.seeder import STATUS_FILE, Seeder
from guix_glue.seed.status import parse_status
from guix_glue.seed.trees import DirectoryTrees, StoreTrees, Trees
from tests.guix_glue.seed.support import encoded, made, make_tree

GUARD_S = 60.0
HASHES = ["a" * 32, "b" * 32, "c" * 32]
DERIVER = "/store/" + "d" * 32 + "-x.drv"


class Store:
    """A store with a database as Guix has it, and some items."""

    def __init__(self, directory: Path) -> None:
        self.store_dir = str(directory / "store")
        self.database_dir = directory / "db"
        self.database_dir.mkdir(parents=True)
        (self.database_dir / "schema").write_text("7")
        self.notes = directory / "public-items"
        with self._open() as database:
            database.execute(
                "CREATE TABLE ValidPaths (id INTEGER PRIMARY KEY, path TEXT, hash TEXT,"
                " registrationTime INTEGER, deriver TEXT, narSize INTEGER)"
            )
            database.commit()

    def _open(self) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(self.database_dir / "db.sqlite"))

    def add(self, number: int, *, fetched: bool = True, text: str = "") -> Path:
        path = Path(self.store_dir, f"{HASHES[number]}-item{number}")
        make_tree(path, [1000 + number, 50_000])
        (path / "text").write_text(text)
        nar, _ = nar_hash(str(path))
        with self._open() as database:
            database.execute(
                "INSERT INTO ValidPaths VALUES (NULL, ?, ?, 0, ?, 1000)",
                (str(path), f"sha256:{nar.hex()}", DERIVER.replace("/store", self.store_dir)),
            )
            database.commit()
        if fetched:
            PublicItems(self.notes).note(HASHES[number], nar)
        return path

    def collect(self, path: Path) -> None:
        """As the garbage collector does: first it is no item any more, then it goes."""
        with self._open() as database:
            database.execute("DELETE FROM ValidPaths WHERE path = ?", (str(path),))
            database.commit()

    def trees(self, index: Path, consent: Consent | None = None) -> StoreTrees:
        database = StoreDatabase(str(self.database_dir), self.store_dir)
        return StoreTrees(
            database, self.store_dir, consent or Consent(), Known([self.notes], index)
        )


def run(
    index: Path,
    make_sources: Callable[[], list[Trees]],
    script: Callable[[Seeder], Awaitable[None]],
    roots: PinnedRoots | None = None,
) -> None:
    async def play() -> None:
        opened = SeedIndex(index)
        with ThreadPoolExecutor(1) as idle:
            seeder = Seeder(opened, make_sources(), idle, roots=roots, look_s=0.02)
            task = asyncio.create_task(seeder.run())
            try:
                async with asyncio.timeout(GUARD_S):
                    await script(seeder)
            finally:
                task.cancel()
                await asyncio.wait([task])
                seeder.close()
                opened.close()
        assert task.cancelled()

    asyncio.run(play())


async def until(seeder: Seeder, is_so: Callable[[], bool]) -> None:
    """Wait for something, which the guard around bounds."""
    while not is_so():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


def test_items_come_and_go(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, private = store.add(0), store.add(1, fetched=False)
    blocks = encoded(first)[1]
    secret = encoded(private)[1].keys() - blocks.keys()
    index = tmp_path / "index"

    async def script(seeder: Seeder) -> None:
        await until(seeder, lambda: seeder.status().trees == 1)
        assert all(made(seeder.maker, one) == block for one, block in blocks.items())
        assert not any(made(seeder.maker, one) for one in secret)
        # Somebody fetches another.
        third = store.add(2)
        more = (await asyncio.to_thread(encoded, third))[1]
        await until(seeder, lambda: seeder.status().trees == 2)
        assert all(made(seeder.maker, one) == block for one, block in more.items())
        # One is collected: its files may be there for a moment more.
        store.collect(first)
        await until(seeder, lambda: seeder.status().trees == 1)
        assert not any(made(seeder.maker, one) for one in blocks.keys() - more.keys())
        status = index / STATUS_FILE
        await until(seeder, lambda: parse_status(status.read_bytes()).trees == 1)

    run(index, lambda: [store.trees(index)], script)


def test_what_was_read_before_is_given_at_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    blocks = encoded(store.add(0))[1]
    index = tmp_path / "index"

    async def fill(seeder: Seeder) -> None:
        await until(seeder, lambda: seeder.status().trees == 1)

    async def again(seeder: Seeder) -> None:
        assert not any(made(seeder.maker, one) for one in blocks)
        # Only then it connects to the daemon.
        await seeder.has_looked.wait()
        assert all(made(seeder.maker, one) == block for one, block in blocks.items())

    run(index, lambda: [store.trees(index)], fill)
    run(index, lambda: [store.trees(index)], again)


def test_why_an_item_is_given_away_or_not(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, private = store.add(0), store.add(1, fetched=False)
    trees = store.trees(tmp_path, Consent(may_ask=False, has_log=lambda deriver: False))
    assert trees.explain(str(first)).say is Say.OFFERED
    verdict = trees.explain(str(private))
    assert (verdict.say, "not known to be public" in verdict.reason) == (Say.NOT_OFFERED, True)
    assert "no valid item" in trees.explain(f"{store.store_dir}/{HASHES[2]}-none").reason


def test_a_directory_is_read_again_when_a_file_changed(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree", [50_000, 60_000])
    before = encoded(root)[1]
    index = tmp_path / "index"

    async def script(seeder: Seeder) -> None:
        await until(seeder, lambda: seeder.status().trees == 1)
        (root / "d0" / "f50000").write_bytes(b"other" * 10_000)
        after = (await asyncio.to_thread(encoded, root))[1]
        gone = before.keys() - after.keys()
        # Asking for it tells that it changed.
        for one in gone:
            made(seeder.maker, one)
        await until(
            seeder,
            lambda: all(made(seeder.maker, one) == block for one, block in after.items()),
        )

    run(index, lambda: [DirectoryTrees([str(root)])], script)


def test_roots_are_made_and_removed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first, second = store.add(0), store.add(1)
    (tmp_path / "gcroots").mkdir()
    directory = tmp_path / "gcroots" / "kapla-seed"
    index = tmp_path / "index"

    def roots() -> set[str]:
        return (
            {str(path.readlink()) for path in directory.iterdir()} if directory.exists() else set()
        )

    async def script(seeder: Seeder) -> None:
        await until(seeder, lambda: seeder.status().trees == 2)
        assert roots() == {str(first), str(second)}
        # What somebody else put there is left alone.
        (directory / "mine").symlink_to("/elsewhere")
        store.collect(first)
        await until(seeder, lambda: seeder.status().trees == 1)
        assert roots() == {str(second), "/elsewhere"}

    run(
        index,
        lambda: [store.trees(index)],
        script,
        PinnedRoots(str(tmp_path), store.store_dir),
    )


def test_a_store_that_cannot_be_read_keeps_its_index(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = store.add(0)
    blocks = encoded(first)[1]
    index = tmp_path / "index"

    async def fill(seeder: Seeder) -> None:
        await until(seeder, lambda: seeder.status().trees == 1)

    run(index, lambda: [store.trees(index)], fill)
    (store.database_dir / "schema").write_text("99")

    async def none(seeder: Seeder) -> None:
        await asyncio.sleep(0.1)
        assert not any(made(seeder.maker, one) for one in blocks)
        (store.database_dir / "schema").write_text("7")
        # The database is looked at again when it was written to.
        store.collect(Path("none"))
        store.add(1)
        await until(seeder, lambda: seeder.status().trees == 2)
        assert seeder.status().read_bytes < 60_000

    run(index, lambda: [store.trees(index)], none)
