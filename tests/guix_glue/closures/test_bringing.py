"""Items out of blocks: nothing wrong is ever complete, and another way is tried."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import eris_fs
from eris.errors import StoreUnavailable
from eris.model import BlockSize, Reference
from eris.store import BlockReader, MemoryStore
from eris_fs.errors import TreeError
from guix_glue.closures.bringing import bring
from guix_glue.closures.nars import Nars
from guix_glue.closures.wanted import Wanted
from guix_glue.errors import FetchFailed, HashMismatch
from guix_glue.formats.compression import Compression
from guix_glue.formats.narinfo import Narinfo, format_narinfo, format_unsigned, parse_narinfo
from guix_glue.model import StoreItem
from guix_glue.servers.nars import NarEnd, NarSource
from guix_glue.servers.url import Server, parse_server
from tests.eris_fs.trees import File
from tests.guix_glue.closures.support import (
    BIG,
    GREETING,
    WORDS,
    Made,
    export_of,
    make,
    wanted_of,
    with_urns,
)


class Memory:
    """An archive in memory; what was taken back is told."""

    def __init__(self) -> None:
        self.archive = bytearray()
        self.taken_back = 0
        self.fails: Exception | None = None
        self._begun = 0

    async def begin(self, item: StoreItem) -> None:
        self._begun = len(self.archive)
        self.archive += (1).to_bytes(8, "little")

    async def write(self, piece: bytes) -> None:
        if self.fails is not None:
            raise self.fails
        self.archive += piece

    async def complete(self, end: bytes) -> None:
        self.archive += end

    async def take_back(self) -> None:
        del self.archive[self._begun :]
        self.taken_back += 1


class NarsOf:
    """A server of plain nars."""

    def __init__(self, nars: dict[str, bytes]) -> None:
        self._nars = nars

    def nar_sources(self, server: Server, narinfo: Narinfo) -> Sequence[NarSource]:
        return [NarSource(f"{server.url}/{narinfo.item.base_name}", Compression.NONE, None)]

    async def nar(
        self, source: NarSource, nar_size: int, end: NarEnd | None = None
    ) -> AsyncGenerator[bytes, None]:
        yield self._nars[source.url.rpartition("/")[2]]


def served(wanted: Wanted) -> Wanted:
    """The item, of which a server has the nar."""
    text = format_narinfo(format_unsigned(wanted.item), None, ())
    narinfo = parse_narinfo(text, store_dir="/gnu/store")
    return replace(wanted, narinfo=narinfo, server=parse_server("http://one.example"))


def run(
    items: Sequence[Made],
    change: Callable[[list[Wanted], MemoryStore], Awaitable[BlockReader | None]] | None = None,
    servers: NarsOf | None = None,
) -> Memory:
    """Bring items; `change` may alter what is wanted, and the store."""

    async def work() -> Memory:
        store: BlockReader = (memory := MemoryStore())
        wanted = await wanted_of(memory, *items)
        if change is not None:
            store = await change(wanted, memory) or memory
        sink = Memory()
        done: list[int] = []
        await bring(wanted, Nars(store, servers), sink, lambda *_: None, done.append)
        assert sum(done) == sum(one.item.nar_size for one in items)
        return sink

    return asyncio.run(work())


@pytest.fixture
def items(tmp_path: Path) -> list[Made]:
    words = make(tmp_path, "words", WORDS)
    greeting = make(tmp_path, "greeting", GREETING, words.item.base_name, "self")
    return [words, greeting, make(tmp_path, "big", BIG, greeting.item.base_name)]


def end(archive: bytearray) -> bytes:
    return bytes(archive) + bytes(8)


def test_small_and_large_ones(items: list[Made]) -> None:
    many = [items[0], items[2], items[1], *items[:2] * 9]
    assert end(run(many).archive) == export_of(many)


@pytest.mark.parametrize("place", [0, 2])
def test_another_tree_is_never_taken(items: list[Made], place: int) -> None:
    async def change(wanted: list[Wanted], _: MemoryStore) -> None:
        wanted[place] = replace(wanted[place], urns=wanted[1].urns)

    with pytest.raises(FetchFailed, match=items[place].item.base_name) as caught:
        run(items, change)
    assert isinstance(caught.value.__cause__, TreeError | HashMismatch | FetchFailed)


def test_a_large_one_that_is_wrong_at_its_end_is_taken_back(
    items: list[Made], tmp_path: Path
) -> None:
    other = {**BIG, "more": File(b"y" * 100_000)}  # type: ignore[dict-item]
    (tmp_path / "wrong").mkdir()
    wrong = make(tmp_path / "wrong", "big", other)

    async def change(wanted: list[Wanted], store: MemoryStore) -> None:
        trees = await wanted_of(store, wrong)
        wanted[2] = replace(wanted[2], urns=(*trees[0].urns, *wanted[2].urns))

    sink = run(items, change)
    assert sink.taken_back == 1
    assert end(sink.archive) == export_of(items)


@pytest.mark.parametrize("place", [0, 2])
def test_a_nar_of_a_server_takes_the_place_of_blocks(items: list[Made], place: int) -> None:
    async def change(wanted: list[Wanted], _: MemoryStore) -> None:
        missing = await eris_fs.put_packed_tree(MemoryStore(), str(items[place].path), level=2)
        wanted[place] = served(with_urns(wanted[place], missing))

    servers = NarsOf({one.item.base_name: one.nar for one in items})
    assert end(run(items, change, servers).archive) == export_of(items)


@pytest.mark.parametrize("extra", [b"", b"x" * 8])
def test_a_nar_of_a_server_that_is_wrong(items: list[Made], extra: bytes) -> None:
    async def change(wanted: list[Wanted], _: MemoryStore) -> None:
        wanted[0] = served(replace(wanted[0], urns=()))

    nar = bytearray(items[0].nar)
    nar[100] ^= 1
    with pytest.raises(FetchFailed):
        run(items, change, NarsOf({items[0].item.base_name: bytes(nar) + extra}))


class Gone:
    """A store that cannot be reached."""

    def __init__(self) -> None:
        self.asked = 0

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        self.asked += 1
        raise StoreUnavailable("nobody is there")


def test_a_store_that_is_gone_is_not_asked_for_each_item(items: list[Made]) -> None:
    gone = Gone()

    async def change(wanted: list[Wanted], _: MemoryStore) -> BlockReader:
        wanted[:] = [served(one) for one in wanted]
        return gone

    many = [*items[1:2] * 40, *items[2:] * 3]
    servers = NarsOf({one.item.base_name: one.nar for one in items})
    assert end(run(many, change, servers).archive) == export_of(many)
    assert gone.asked <= 32


class Silent:
    """A store that never answers; tells when it is asked."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.parametrize("place", [0, 2])
def test_a_silent_store_is_given_up(items: list[Made], place: int) -> None:
    async def work() -> None:
        wanted = await wanted_of(MemoryStore(), items[place])
        nars = Nars(Silent(), stall_s=0.05)
        await bring(wanted, nars, Memory(), lambda *_: None, lambda _: None)

    with pytest.raises(FetchFailed, match="nothing comes any more"):
        asyncio.run(work())


def test_when_it_is_cancelled_nothing_goes_on(items: list[Made]) -> None:
    async def work() -> Memory:
        wanted = await wanted_of(MemoryStore(), items[2], *items[:2] * 20)
        store, sink = Silent(), Memory()
        bringing = asyncio.create_task(
            bring(wanted, Nars(store), sink, lambda *_: None, lambda _: None)
        )
        await store.asked.wait()
        bringing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await bringing
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return sink

    sink = asyncio.run(work())
    assert sink.archive == b""


def test_nobody_knows_where_it_is(items: list[Made]) -> None:
    async def change(wanted: list[Wanted], _: MemoryStore) -> None:
        wanted[1] = replace(wanted[1], urns=("urn:eris:nonsense",))

    with pytest.raises(FetchFailed, match="nobody says where it can be had from"):
        run(items, change)


@pytest.mark.parametrize("place", [0, 2])
def test_what_goes_wrong_where_items_go_is_no_fault_of_a_way(items: list[Made], place: int) -> None:
    async def work() -> None:
        store, sink = MemoryStore(), Memory()
        wanted = await wanted_of(store, items[place])
        sink.fails = OSError(28, "No space left on device")
        await bring(wanted, Nars(store), sink, lambda *_: None, lambda _: None)

    with pytest.raises(OSError, match="No space left"):
        asyncio.run(work())


def test_a_nar_that_ends_early_goes_nowhere(items: list[Made]) -> None:
    # A reader of archives would take what stands behind the end for the end of the item.
    words, big = items[0], items[2]
    forged = export_of([replace(words, item=replace(words.item, path=big.item.path))])[8:]
    nar = (forged + (1).to_bytes(8, "little")).ljust(big.item.nar_size, b"\0")
    sent: list[bytes] = []

    class Noting(Memory):
        async def write(self, piece: bytes) -> None:
            sent.append(piece)

    async def work() -> None:
        wanted = served(Wanted(big.item))
        nars = Nars(None, NarsOf({big.item.base_name: nar}))
        await bring([wanted], nars, Noting(), lambda *_: None, lambda _: None)

    with pytest.raises(FetchFailed, match="something follows its end"):
        asyncio.run(work())
    assert sent == []
