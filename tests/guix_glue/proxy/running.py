"""A real `kapla proxy` on a free port, and the inside of one, with nars that are made up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from guix_glue.kept.directory import CacheDirectory
from guix_glue.proxy.passage import AskAnew
from guix_glue.proxy.site import Site
from guix_glue.proxy.source import Parts, ProxySource
from guix_glue.servers.proxies import NO_PROXIES, Proxies
from guix_glue.servers.url import parse_server
from guix_glue.serving.reply import TEXT_TYPE, Reply, Request
from guix_glue.sources.vouching import Vouched
from guix_glue.trust.authorities import Authorities
from guix_glue.upstream.cache_infos import CacheInfos, OtherStore
from guix_glue.upstream.kept_narinfos import MirrorCache
from guix_glue.upstream.narinfos import MirrorNarinfos
from guix_glue.upstream.servers import Choice, Upstream
from tests.guix_glue.publish.support import ACL, SAMPLES, Publisher

__all__ = ["ALONE", "TRUST", "FakeNars", "Inside", "inside", "proxying"]

TRUST: tuple[str | Path, ...] = ("--acl", SAMPLES / "keys" / "acl")
ALONE: Mapping[str, str] = {
    "NIX_CONF_DIR": "/nowhere",
    "GUIX_CONFIGURATION_DIRECTORY": "/nowhere",
    "ERIS_STORE_URL": "none",
}
"""The environment of a machine that trusts nobody and has no blocks."""


@contextmanager
def proxying(
    tmp_path: Path,
    urls: Sequence[str],
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    debug: bool = False,
) -> Iterator[Publisher]:
    """A proxy of some servers, with its cache in a directory, until the end of the context."""
    fixed: list[str | Path] = ["--port", "0", "--cache", tmp_path / "cache"]
    fixed += [part for url in urls for part in ("--upstream", url)]
    proxy = Publisher([*fixed, *arguments], {**ALONE, **(env or {})}, debug=debug, command="proxy")
    try:
        proxy.start()
        yield proxy
    finally:
        proxy.close()


class FakeNars:
    """Nars that say which they are."""

    def __init__(self) -> None:
        self.asked: list[Vouched] = []
        self.missing = False
        self.when_asked: Callable[[], None] = lambda: None

    async def reply(
        self, vouched: Vouched, *, only_head: bool = False, ask_anew: AskAnew | None = None
    ) -> Reply | None:
        """The nar, but for whom it is missing."""
        self.asked.append(vouched)
        self.when_asked()
        if self.missing:
            return None
        return Reply(200, TEXT_TYPE, vouched.item.nar_hash)

    async def expire(self, before: float) -> None: ...

    async def close(self) -> None: ...


class Inside:
    """A proxy without sockets of its own."""

    def __init__(self, source: ProxySource, nars: FakeNars) -> None:
        self.source = source
        self.nars = nars
        self._site = Site(source)
        self.left_out: list[OtherStore] = []
        self.has_left_out = asyncio.Event()
        """Set with the first of these."""

    async def get(self, path: str, method: str = "GET") -> Reply:
        """The reply to a request."""
        return await self._site.answer(Request(method, path))

    async def text(self, path: str) -> str:
        """The body of a reply that is there."""
        reply = await self.get(path)
        assert reply.status == 200, reply
        assert isinstance(reply.body, bytes)
        return reply.body.decode()


@asynccontextmanager
async def inside(
    tmp_path: Path,
    urls: Sequence[str],
    *,
    authorities: Authorities | None = None,
    store_dir: str | None = "/gnu/store",
    proxies: Proxies = NO_PROXIES,
) -> AsyncIterator[Inside]:
    """A proxy of some servers in this process."""
    directory = CacheDirectory(tmp_path / "cache")
    servers = [parse_server(url) for url in urls]
    keys = Authorities(ACL) if authorities is None else authorities
    nars = FakeNars()

    def make(store: str) -> Parts:
        upstream = Upstream(servers, keys, store, proxies, age_s=3600, choice=Choice.FASTEST)
        cache = MirrorCache(directory, store, upstream.believed)
        narinfos = MirrorNarinfos(
            cache, upstream, absence_age_s=60, settles=True, waits_for_disk=False
        )
        return Parts(upstream, cache, narinfos, nars)

    def leave_out(other: OtherStore) -> None:
        proxy.left_out.append(other)
        proxy.source.leave_out(other)
        proxy.has_left_out.set()

    infos = CacheInfos(
        directory,
        servers,
        proxies,
        age_s=3600,
        store_dir=store_dir,
        default_dir="/gnu/store",
        left_out=leave_out,
    )
    proxy = Inside(ProxySource(infos, make, priority=30), nars)
    try:
        yield proxy
    finally:
        await proxy.source.close()
        await infos.close()
        directory.close()
