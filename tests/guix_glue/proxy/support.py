"""What tests of the proxy's nars share: an item, who offers it, and a proxy that brings it."""

from __future__ import annotations

import asyncio
import errno
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

import eris_fs
from eris.model import BlockSize, Reference
from eris.store import BlockReader, MemoryStore
from guix_glue.formats.narinfo import NarUrl, parse_narinfo
from guix_glue.kept.directory import CacheDirectory
from guix_glue.local.installed import InstalledItems
from guix_glue.proxy.nars import Nars
from guix_glue.proxy.settings import DEFAULT_NAR_SETTINGS, NarSettings
from guix_glue.servers.url import parse_server
from guix_glue.serving.reply import FetchedBody, Reply
from guix_glue.sources.hints import Hints
from guix_glue.sources.vouching import Candidate, Vouched
from guix_glue.trust.authorities import Authorities
from guix_glue.upstream.servers import Upstream
from tests.guix_glue.fetch.bringing import ACL
from tests.guix_glue.fetch.fakes import FakeServer, running_server
from tests.guix_glue.fetch.support import STORE, Made, make_item, narinfo_of, plain_url
from tests.integration.daemon import GUARD_S

Happens = Callable[[], Awaitable[object]]

__all__ = [
    "HURRIED",
    "PATIENT",
    "STREAMING",
    "FullDisk",
    "Goods",
    "Map",
    "Watched",
    "body_of",
    "drain",
    "flipped",
    "make_goods",
    "offer",
    "proxying",
    "run",
    "status_of",
    "take",
    "unreachable",
    "vouch",
]

PATIENT: Final = replace(DEFAULT_NAR_SETTINGS, header_s=60.0)
"""A failure is a status, however busy the machine is."""
STREAMING: Final = replace(PATIENT, small=0)
"""And the item, which is small, is treated as a large one."""
HURRIED: Final = replace(STREAMING, header_s=0.01)
"""The header is out before anything is known."""

_OTHER: Final = f"{'2' * 32}-other-1.0"


@dataclass(frozen=True)
class Goods:
    """An item with the URNs of its tree, and another item's; the blocks of all."""

    made: Made
    other: Made
    blocks: MemoryStore
    urn: str
    packed: str
    other_urn: str


def make_goods(directory: Path) -> Goods:
    """Make them: an item of some 6 MB, and one that begins as it does."""
    blocks = MemoryStore()
    root, other = directory / "item", directory / "other"
    for number, tree in enumerate((root, other)):
        tree.mkdir()
        (tree / "a").write_bytes(hashlib.shake_128(b"a").digest(2_000_000))
        (tree / "b").write_bytes(hashlib.shake_128(b"b" * (number + 1)).digest(2_000_000))
        (tree / "c").write_bytes(hashlib.shake_128(b"c").digest(2_000_000))
        (tree / "d").symlink_to("a")

    async def put() -> tuple[str, str, str]:
        return (
            (await eris_fs.put_tree(blocks, root)).to_urn(),
            (await eris_fs.put_packed_tree(blocks, root, level=1)).to_urn(),
            (await eris_fs.put_tree(blocks, other)).to_urn(),
        )

    urn, packed, other_urn = asyncio.run(put())
    return Goods(make_item(root), make_item(other, _OTHER), blocks, urn, packed, other_urn)


def offer(
    server: FakeServer,
    made: Made,
    nar: bytes | None = None,
    *,
    urn: str | None = None,
    hint: str | None = None,
    urls: Sequence[NarUrl] | None = None,
) -> Candidate:
    """Have a server offer an item, with the plain nar, or what it says is that."""
    urls = (plain_url(made),) if urls is None else urls
    server.files[f"/nar/{made.item.base_name}"] = made.nar if nar is None else nar
    text = narinfo_of(made, urls, urn=urn, hint=hint)
    store_dir = made.item.store_dir
    return Candidate(parse_server(server.url), parse_narinfo(text, store_dir=store_dir))


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a test to its end; what hangs is ended."""
    asyncio.run(asyncio.wait_for(main, GUARD_S))


def unreachable(goods: Goods, urn: str | None = None, hint: str | None = None) -> Vouched:
    """Vouched for, and to be had by no server."""
    with running_server() as gone:
        candidate = offer(gone, goods.made, urn=urn, hint=hint)
    return vouch(candidate)


def flipped(content: bytes, place: int) -> bytes:
    """The same, but for one bit."""
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def vouch(*candidates: Candidate) -> Vouched:
    """The first one is authorized, and all say the same."""
    return Vouched(candidates[0].narinfo, candidates)


@asynccontextmanager
async def proxying(
    directory: Path,
    store: BlockReader | None = None,
    *,
    hints: Sequence[Hints] = (),
    installed: InstalledItems | None = None,
    settings: NarSettings = STREAMING,
    cache: Callable[[Path], CacheDirectory] = CacheDirectory,
) -> AsyncIterator[Nars]:
    """The nars of a proxy, whose cache is in a directory; at its end nothing is left of it."""
    tasks = asyncio.all_tasks()
    opened = cache(directory)
    upstream = Upstream((), Authorities(ACL), STORE)
    nars = Nars(store, upstream, opened, installed, hints, settings)
    try:
        yield nars
    finally:
        await nars.close()
        await upstream.close()
        opened.close()
    assert asyncio.all_tasks() <= tasks
    assert list((directory / "v1/tmp").iterdir()) == []


def body_of(reply: Reply | None) -> FetchedBody:
    """The body of a reply that has one."""
    assert reply is not None
    assert reply.status == 200
    assert isinstance(reply.body, FetchedBody)
    return reply.body


async def status_of(nars: Nars, vouched: Vouched) -> int:
    """What a client is told that wants to know no more."""
    reply = await nars.reply(vouched)
    if reply is None:
        return 404
    reply.close()
    return reply.status


async def take(nars: Nars, vouched: Vouched, then: Happens | None = None) -> bytes:
    """The nar as a client gets it, all of it; `then` is called when it has something of it."""
    return await drain(await nars.reply(vouched), then)


async def drain(reply: Reply | None, then: Happens | None = None) -> bytes:
    """The rest of that."""
    body = body_of(reply)
    found = bytearray()
    try:
        async with aclosing(body.open(0, body.size)) as pieces:
            async for piece in pieces:
                found += piece
                if then is not None:
                    await then()
                    then = None
    finally:
        body.close()
    return bytes(found)


class FullDisk(CacheDirectory):
    """One where nothing can be made any more."""

    def create(self, path: Path) -> BinaryIO:
        raise OSError(errno.ENOSPC, "No space left on device")


class Watched:
    """A store that counts, and in which something happens with every block from a number on."""

    def __init__(self, store: BlockReader, first: int = 0, happens: Happens | None = None) -> None:
        self._store = store
        self._first = first
        self._happens = happens
        self.asked = 0
        self.was_asked = asyncio.Event()

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        number = self.asked
        self.asked += 1
        self.was_asked.set()
        if self._happens is not None and number >= self._first:
            await self._happens()
        return await self._store.get(reference, block_size)


class Map:
    """Knows URNs of items, and what was said of them."""

    def __init__(self, **urns: Sequence[str]) -> None:
        self.known = urns
        self.asked = 0
        self.forgotten: list[tuple[str, str]] = []

    async def urns(self, hash_part: str) -> Sequence[str]:
        self.asked += 1
        return self.known.get(hash_part, ())

    async def forget(self, hash_part: str, urn: str) -> None:
        self.forgotten.append((hash_part, urn))
