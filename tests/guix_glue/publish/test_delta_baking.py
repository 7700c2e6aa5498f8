"""When deltas are made, from which bases, and what becomes of those that cannot be."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from eris.capability import ReadCapability
from eris.errors import BlockNotFound, StoreUnavailable
from eris.model import BlockSize, Reference
from eris.store import MemoryStore
from eris_fs import ReferenceWalk
from eris_fs.delta.apply import open_delta
from eris_fs.delta.directory import DirectoryFiles
from eris_fs.delta.model import BaseRange
from guix_glue.formats.narinfo import Narinfo, parse_narinfo
from guix_glue.formats.store_path import hash_part_of
from guix_glue.kept.delta_results import delta_key
from guix_glue.kept.directory import CacheDirectory
from guix_glue.kept.records import Destination
from guix_glue.local.archive import nar_hash
from guix_glue.local.item_directory import DirectoryItems
from guix_glue.model import StoreItem
from guix_glue.publish.cache import BakedCache
from guix_glue.publish.delta_trees import BaseGone, KnownTree, opened_base
from guix_glue.publish.local_source import LocalSource
from guix_glue.publish.model import ErisTarget, PublishOptions
from guix_glue.publish.narinfos import NarinfoWriter, SigningKeys
from guix_glue.publish.queue import JobQueue
from guix_glue.publish.tree_formats import PackedTrees, StandardTrees, TreeFormat
from guix_glue.serving.journal import Entry, Journal
from tests.guix_glue.publish.support import make_item
from tests.integration.daemon import GUARD_S

TTL_S = 1000


class Store(MemoryStore):
    """A store that loses blocks, fails, or has all or deltas wait, when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.put_so_far: set[Reference] = set()
        self.lost: set[Reference] = set()
        self.failing = False
        self.holding: LocalSource | None = None
        self.held = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        if reference in self.lost:
            raise BlockNotFound(reference)
        return await super().get(reference, block_size)

    async def put(self, reference: Reference, block: bytes) -> None:
        await self.go_on.wait()
        # What comes while no item is baked is of a delta.
        if self.holding is not None and not self.holding.queue.bakings.under_way:
            self.held.set()
            await asyncio.Event().wait()
        if self.failing:
            raise StoreUnavailable("coap+unix:///secret")
        self.put_so_far.add(reference)
        self.lost.discard(reference)
        await super().put(reference, block)


class SomeItems(DirectoryItems):
    """Items of which one is collected just when it is looked at, or has had its files altered."""

    collected = ""
    altered: tuple[str, Path] | None = None

    def location(self, item: StoreItem) -> str:
        if self.altered is not None and item.name == self.altered[0]:
            return str(self.altered[1])
        return "/nowhere" if item.name == self.collected else super().location(item)


class Log(Journal):
    """A log that is only read."""

    def __init__(self) -> None:
        self.lines: list[Mapping[str, object]] = []

    def note(self, entry: Entry) -> None:
        self.lines.append(entry.facts())


class Running:
    """A publisher's source, and what it works with."""

    def __init__(self, source: LocalSource, items: SomeItems, store: Store, log: Log) -> None:
        self.source = source
        self.items = items
        self.store = store
        self.log = log

    @property
    def deltas(self) -> JobQueue[str]:
        """Where they wait to be made."""
        assert self.source.deltas is not None
        return self.source.deltas.queue

    async def baked(self, item: Path) -> None:
        """Have the nars and the tree of an item made."""
        await self.source.narinfo(item.name[:32])
        await self.source.queue.idle()

    async def settled(self, item: Path) -> Narinfo:
        """The narinfo, once all is made that can be."""
        await self.baked(item)
        async with asyncio.timeout(GUARD_S):
            while (await self.told(item))[1] != TTL_S:
                await self.deltas.idle()
        return (await self.told(item))[0]

    async def told(self, item: Path) -> tuple[Narinfo, int | None]:
        """The narinfo, and for how long it may be kept."""
        reply = await self.source.narinfo(item.name[:32])
        assert reply is not None
        assert isinstance(reply.body, bytes)
        return parse_narinfo(reply.body, store_dir="/gnu/store"), reply.max_age_s


@asynccontextmanager
async def running(
    tmp_path: Path, store: Store | None = None, *, deltas: int = 3, trees: TreeFormat | None = None
) -> AsyncIterator[Running]:
    (tmp_path / "items").mkdir(exist_ok=True)
    directory, log = CacheDirectory(tmp_path / "cache"), Log()
    items = SomeItems(str(tmp_path / "items"), "/gnu/store")
    options = PublishOptions("/gnu/store", (), ttl_s=TTL_S, deltas=deltas)
    cache = BakedCache(directory, promise_s=options.promise_s)
    store = store or Store()
    target = ErisTarget(store, "one", trees or PackedTrees(1))
    writer = NarinfoWriter(SigningKeys("host"))
    source = LocalSource(items, None, cache, writer, options, target, workers=1, baking_log=log)
    try:
        await source.prepare(GUARD_S)
        yield Running(source, items, store, log)
    finally:
        await source.close()
        await items.close()
        directory.close()


def add(tmp_path: Path, name: str, *, change: int = 10, size: int = 60_000) -> Path:
    """Make an item: a file of which some bytes are another in each."""
    content = bytearray(random.Random(0).randbytes(size))
    content[:change] = random.Random(name).randbytes(change)
    path = make_item(tmp_path / "items", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


async def blocks_of(one: Running) -> set[Reference]:
    """The blocks of all that narinfos name."""
    found = set[Reference]()
    for urn in (await one.source.urns()).values():
        walk = ReferenceWalk(one.store).content(ReadCapability.from_urn(urn))
        async with aclosing(walk) as batches:
            async for batch in batches:
                found.update(batch.references)
    return found


def bases(narinfo: Narinfo) -> list[str]:
    return [line.base[33:] for line in narinfo.hint_deltas]


def test_the_newest_bases_and_no_more_than_wanted_the_smallest_first(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path, deltas=2) as one:
            for name in ("a-1", "a-2", "a-9", "a-10", "a-12", "b-10"):
                await one.baked(add(tmp_path, name, change=20_000 if name == "a-10" else 10))
            assert bases(await one.settled(add(tmp_path, "a-11"))) == ["a-9", "a-10"]
            # More are wanted now, and then fewer.
        for count, expected in ((4, ["a-9", "a-2", "a-1", "a-10"]), (1, ["a-9"]), (0, [])):
            async with running(tmp_path, one.store, deltas=count) as again:
                if count:
                    found = bases(await again.settled(make_item(tmp_path / "items", "a-11")))
                else:
                    assert again.source.deltas is None
                    narinfo, age_s = await again.told(make_item(tmp_path / "items", "a-11"))
                    found = bases(narinfo)
                    assert age_s == TTL_S
                assert sorted(found) == sorted(expected)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("names", "size", "trees"),
    [
        (("a-1.tar.gz", "a-2.tar.gz"), 60_000, PackedTrees(1)),
        (("a-1", "a-2"), 5_000, PackedTrees(1)),
        (("a-1", "a-2"), 60_000, StandardTrees()),
    ],
    ids=["compressed", "small", "standard"],
)
def test_what_has_none(
    names: tuple[str, str], size: int, trees: TreeFormat, tmp_path: Path
) -> None:
    async def main() -> None:
        async with running(tmp_path, trees=trees) as one:
            for name in names:
                item = add(tmp_path, name, size=size)
                await one.baked(item)
                if one.source.deltas is not None:
                    await one.source.deltas.queue.idle()
                narinfo, age_s = await one.told(item)
                assert (bases(narinfo), age_s) == ([], TTL_S)

    asyncio.run(main())


def test_what_is_not_smaller_is_given_up_and_not_tried_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as one:
            await one.baked(add(tmp_path, "a-1"))
            new = add(tmp_path, "a-2", change=60_000)
            assert bases(await one.settled(new)) == []
            # Nobody would ever ask for its blocks, or remove them.
            assert one.store.put_so_far == await blocks_of(one)
            assert one.log.lines[-1]["result"] == "it is not a quarter smaller than the tree"
            assert one.source.deltas is not None
            assert one.source.deltas.tally.given_up == 1
        async with running(tmp_path, one.store) as again:
            assert (await again.told(new))[1] == TTL_S
            assert not again.log.lines

    asyncio.run(main())


def test_all_that_is_asked_for_is_baked_first(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as one:
            await one.baked(add(tmp_path, "a-1"))
            names = ("a-2", "b-1", "c-1", "d-1")
            one.store.go_on.clear()
            for name in names:
                await one.told(add(tmp_path, name))
            one.store.go_on.set()
            assert bases(await one.settled(make_item(tmp_path / "items", "a-2"))) == ["a-1"]
            baked = [str(line["item"])[44:] for line in one.log.lines]
            assert baked[-1] == "a-2"
            assert set(baked[:-1]) == {"a-1", *names}
            assert one.log.lines[-1]["compression"] == "delta"

    asyncio.run(main())


def test_a_server_that_stops_in_the_middle_goes_on_later(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as one:
            await one.baked(add(tmp_path, "a-1"))
            one.store.holding = one.source
            new = add(tmp_path, "a-2")
            await one.baked(new)
            await one.store.held.wait()
            narinfo, age_s = await one.told(new)
            assert (bases(narinfo), age_s) == ([], 300)
        assert one.log.lines[-1]["result"] == "stopped"
        one.store.holding = None
        async with running(tmp_path, one.store) as again:
            assert bases(await again.settled(new)) == ["a-1"]

    asyncio.run(main())


def test_a_store_that_fails_is_tried_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with running(tmp_path) as one:
            await one.baked(add(tmp_path, "a-1"))
            new = add(tmp_path, "a-2")
            # The tree is there, as by an earlier version.
            one.store.holding = one.source
            await one.baked(new)
            await one.store.held.wait()
        one.store.holding, one.store.failing = None, True
        async with running(tmp_path, one.store) as one:
            narinfo, age_s = await one.told(new)
            await one.deltas.idle()
            assert (bases(narinfo), age_s, one.deltas.delayed) == ([], 300, 1)
            assert one.source.deltas is not None
            assert one.source.deltas.tally.failed == 1
        assert f"{new.name} has no delta for now: the store" in caplog.text
        assert "secret" not in caplog.text
        one.store.failing = False
        async with running(tmp_path, one.store) as again:
            assert bases(await again.settled(new)) == ["a-1"]

    asyncio.run(main())


def test_a_store_that_is_left_alone_is_no_news_for_each_item(tmp_path: Path) -> None:
    async def main() -> None:
        old, *items = [add(tmp_path, f"a-{number}") for number in range(4)]
        async with running(tmp_path, deltas=0) as one:
            for item in (old, *items):
                await one.baked(item)
        one.store.failing = True
        async with running(tmp_path, one.store) as one:
            for item in items:
                await one.told(item)
            await one.deltas.idle()
            assert one.deltas.delayed == len(items)
            assert [line["result"] for line in one.log.lines] == ["later"]
            assert one.source.deltas is not None
            assert one.source.deltas.tally.failed == 1

    asyncio.run(main())


def test_a_base_that_is_collected_meanwhile_is_read_from_blocks(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as one:
            await one.baked(add(tmp_path, "a-1"))
            one.items.collected = "a-1"
            assert bases(await one.settled(add(tmp_path, "a-2"))) == ["a-1"]

    asyncio.run(main())


@pytest.mark.parametrize("name", ["a-1", "a-2"])
def test_no_delta_is_made_of_files_that_were_altered(name: str, tmp_path: Path) -> None:
    """As a store has them that is not looked at: the hash is that of what was registered."""

    async def main() -> None:
        async with running(tmp_path) as one:
            old, new = add(tmp_path, "a-1"), add(tmp_path, "a-2")
            await one.baked(old)
            one.store.holding = one.source
            await one.baked(new)
            await one.store.held.wait()
        one.store.holding = None
        async with running(tmp_path, one.store) as one:
            # With the content of the other.
            one.items.altered = name, new if name == "a-1" else old
            (line,) = (await one.settled(new)).hint_deltas
            one.items.altered = None
            capability = ReadCapability.from_urn(line.urn)
            with DirectoryFiles(old) as base:
                async with open_delta(one.store, capability, base) as delta:
                    made = [content async for _, content, _ in delta.files()]
            assert b"".join(made) == new.read_bytes()

    asyncio.run(main())


def test_a_base_that_is_nowhere_is_passed_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with running(tmp_path) as one:
            await one.baked(add(tmp_path, "a-1"))
            lost = set(one.store.put_so_far)
            await one.baked(add(tmp_path, "a-0"))
            one.items.collected, one.store.lost = "a-1", lost
            assert bases(await one.settled(add(tmp_path, "a-2"))) == ["a-0"]
            results = [line["result"] for line in one.log.lines if "base" in line]
            assert results == ["the base is gone", "done"]
            assert one.source.deltas is not None
            assert one.source.deltas.tally.failed == 0
        assert not caplog.text

    asyncio.run(main())


def test_the_files_of_a_base_may_go_at_any_time(tmp_path: Path) -> None:
    wanted = Destination("any", "one")

    async def main() -> None:
        file = tmp_path / "file"
        file.write_bytes(b"content")
        digest, size = nar_hash(str(file))
        item = StoreItem(f"/gnu/store/{'0' * 32}-a", digest, size, ())
        (way,) = KnownTree(item, None, str(file)).ways(wanted)
        async with opened_base(way, MemoryStore()) as files:
            assert await files.read([BaseRange(0, 0, 7)]) == b"content"
            file.unlink()
            with pytest.raises(BaseGone):
                await files.read([BaseRange(0, 0, 7)])
        with pytest.raises(BaseGone):
            async with opened_base(way, MemoryStore()):
                pass

    asyncio.run(main())


def test_a_delta_of_which_blocks_are_missing_is_made_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as one:
            old, new = add(tmp_path, "a-1"), add(tmp_path, "a-2")
            await one.baked(old)
            before = await one.settled(new)
            key = delta_key(hash_part_of(new.name), old.name)
            assert set(await one.source.urns()) == {new.name[:32], old.name[:32], key}
            one.store.holding = one.source
            await one.source.withdraw(key)
            await one.store.held.wait()
            assert key not in await one.source.urns()
            assert not (await one.told(new))[0].hint_deltas
        one.store.holding = None
        async with running(tmp_path, one.store) as again:
            assert (await again.settled(new)).text == before.text
            await again.source.withdraw(new.name[:32])
            assert set(await again.source.urns()) == {old.name[:32]}

    asyncio.run(main())
