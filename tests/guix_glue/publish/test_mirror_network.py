"""A mirror on a bad network: busy servers, lost connections, proxies; in this process."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import pytest

from eris.store import NullStore
from guix_glue.errors import FetchFailed
from guix_glue.formats.narinfo import NarUrl
from guix_glue.kept.directory import CacheDirectory
from guix_glue.publish.mirror_baking import MirrorBakery
from guix_glue.publish.mirror_nars import MirrorNars
from guix_glue.publish.model import ErisTarget, PublishOptions
from guix_glue.publish.tree_formats import StandardTrees
from guix_glue.publish.trees import EncodeTree
from guix_glue.servers.proxies import Proxies
from guix_glue.servers.url import parse_server
from guix_glue.trust.authorities import Authorities
from guix_glue.upstream.kept_narinfos import MirrorCache, Mirrored
from guix_glue.upstream.servers import Upstream, UpstreamNarinfo
from tests.clocks import Clock, run_on_clock
from tests.guix_glue.fetch.fakes import Reply, running_server, scripted_server
from tests.guix_glue.fetch.proxy import running_proxy
from tests.guix_glue.fetch.support import STORE, Made, make_item, narinfo_of, plain_url
from tests.guix_glue.publish.support import ACL
from tests.guix_glue.servers.scripts import answer, rest_of, scripted

T = TypeVar("T")


@pytest.fixture
def made(tmp_path: Path) -> Made:
    (tmp_path / "file").write_bytes(b"content " * 1000)
    return make_item(tmp_path / "file")


def with_upstream(
    do: Callable[[Upstream], Awaitable[T]],
    *urls: str,
    environ: Mapping[str, str] | None = None,
    step_s: float = 0.25,
    started: Callable[[Clock], None] = lambda _: None,
) -> T:
    """Do something with servers, pauses taking no time."""

    async def run(clock: Clock) -> T:
        started(clock)
        proxies = Proxies.from_environ(environ or {})
        upstream = Upstream([parse_server(url) for url in urls], Authorities(ACL), STORE, proxies)

        async def done() -> T:
            return await do(upstream)

        try:
            return await clock.skip_until(done(), step_s)
        finally:
            await upstream.close()

    return run_on_clock(run)


def narinfo(
    made: Made, *urls: str, environ: Mapping[str, str] | None = None
) -> UpstreamNarinfo | None:
    return with_upstream(lambda one: one.narinfo(made.item.hash_part), *urls, environ=environ)


@pytest.mark.parametrize("trouble", [b"", answer(b"", status=503), answer(b"", status=429)])
def test_a_narinfo_is_asked_for_again(trouble: bytes, made: Made) -> None:
    text = narinfo_of(made, [plain_url(made)])
    with scripted(trouble, answer(text)) as server:
        found = narinfo(made, server.url)
        assert found is not None and found.narinfo.item == made.item
        assert len(server.heads) == 2


def test_other_servers_are_asked_first(made: Made) -> None:
    text = narinfo_of(made, [plain_url(made)])
    with scripted(answer(b"", status=503)) as busy, scripted(answer(text)) as server:
        found = narinfo(made, busy.url, server.url)
        assert found is not None and found.server.url == server.url
        assert len(busy.heads) == 1


def test_there_is_an_end_to_asking(made: Made) -> None:
    with scripted(answer(b"", status=503)) as server:
        with pytest.raises(FetchFailed, match="not all upstream servers"):
            narinfo(made, server.url)
        assert len(server.heads) == 3


def test_a_narinfo_in_an_encoding(made: Made) -> None:
    text = gzip.compress(narinfo_of(made, [plain_url(made)]))
    with scripted(answer(text, "Content-Encoding: gzip")) as server:
        assert narinfo(made, server.url) is not None
    bomb = gzip.compress(bytes(10_000_000))
    for wrong in (answer(text, "Content-Encoding: br"), answer(bomb, "Content-Encoding: gzip")):
        with scripted(wrong) as server, pytest.raises(FetchFailed):
            narinfo(made, server.url)


def test_a_proxy_is_used(made: Made) -> None:
    with running_server() as server, running_proxy({"cache.example": server.url}) as proxy:
        server.files[f"/{made.item.hash_part}.narinfo"] = narinfo_of(made, [plain_url(made)])
        environ = {"http_proxy": proxy.url}
        assert narinfo(made, "http://cache.example", environ=environ) is not None
        assert len(proxy.heads) == 1
        environ["no_proxy"] = "127.0.0.1"
        assert narinfo(made, server.url, environ=environ) is not None
        assert len(proxy.heads) == 1


@pytest.mark.parametrize("status", [403, 407])
def test_a_proxy_that_refuses_is_named(
    status: int, made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    with running_proxy({}, status) as proxy:
        environ = {"http_proxy": f"me:secret@{proxy.authority}"}
        with pytest.raises(FetchFailed):
            narinfo(made, "http://cache.example", environ=environ)
        assert f"the proxy {proxy.authority}" in caplog.text
        assert str(status) in caplog.text
        assert "secret" not in caplog.text


async def no_doubt(hash_part: str) -> None:
    """Nothing is passed on here."""


def bake(made: Made, cache: Path, *urls: NarUrl, **how: Any) -> None:
    """Bake an item of a server whose nars are there."""
    directory = CacheDirectory(cache)
    mirrored = MirrorCache(directory, STORE)

    async def run(upstream: Upstream) -> None:
        found = await upstream.narinfo(made.item.hash_part)
        assert found is not None
        mirrored.keep(Mirrored(found.server, found.narinfo, 1e12))
        eris = ErisTarget(NullStore(), None, StandardTrees())
        encode = EncodeTree(eris)
        options = PublishOptions(STORE, ())
        nars = MirrorNars(
            directory, upstream, options, max_bytes=0, max_unsigned_size=1, doubt=no_doubt
        )
        bakery = MirrorBakery(directory, mirrored, upstream, encode, nars, max_unsigned_size=1)
        await bakery.bake(made.item.hash_part)

    try:
        with running_server() as server:
            server.files[f"/{made.item.hash_part}.narinfo"] = narinfo_of(made, urls)
            with_upstream(run, server.url, **how)
        kept = mirrored.find(made.item.hash_part)
        assert kept is not None and kept.eris is not None
    finally:
        directory.close()


def test_a_nar_that_breaks_off_goes_on_where_it_did(made: Made, tmp_path: Path) -> None:
    first = answer(made.nar, 'ETag: "x"', cut=len(made.nar) // 2)
    with scripted(first, rest_of(made.nar)) as nars:
        bake(made, tmp_path / "cache", NarUrl(f"{nars.url}/nar", "none", None, None))
        assert len(nars.heads) == 2


def test_a_nar_is_tried_again(made: Made, tmp_path: Path) -> None:
    with scripted(answer(made.nar, cut=9), answer(b"", status=500), answer(made.nar)) as nars:
        bake(made, tmp_path / "cache", NarUrl(f"{nars.url}/nar", "none", None, None))
        assert len(nars.heads) == 3


def test_parts_of_a_nar_that_do_not_fit_together(made: Made, tmp_path: Path) -> None:
    first = answer(made.nar, 'ETag: "x"', cut=len(made.nar) // 2)
    with scripted(first, rest_of(bytes(len(made.nar))), first, answer(made.nar)) as nars:
        bake(made, tmp_path / "cache", NarUrl(f"{nars.url}/nar", "none", None, None))
        assert [bool(asked) for asked, _ in nars.ranges] == [False, True, False, False]


def test_there_is_an_end_to_trying_nars(made: Made, tmp_path: Path) -> None:
    with scripted(answer(made.nar, cut=9)) as nars:
        with pytest.raises(FetchFailed, match="connection was lost"):
            bake(made, tmp_path / "cache", NarUrl(f"{nars.url}/nar", "none", None, None))
        assert 1 < len(nars.heads) < 5


def test_a_nar_in_an_encoding(made: Made, tmp_path: Path) -> None:
    body = gzip.compress(made.nar)
    with running_server() as nars:
        nars.files["/nar"] = Reply(body, headers={"Content-Encoding": "gzip"})
        bake(made, tmp_path / "cache", NarUrl(f"{nars.url}/nar", "none", None, None))


@pytest.mark.parametrize(("drips", "words"), [(True, "too little"), (False, "nothing comes")])
def test_a_server_that_brings_next_to_nothing_is_left(
    drips: bool, words: str, made: Made, tmp_path: Path
) -> None:
    clocks = SimpleQueue[Clock]()

    def script(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(answer(made.nar, cut=9))
        clock = clocks.get()
        for byte in made.nar[9:] if drips else b"":
            clock.settle()
            connection.sendall(bytes([byte]))
        connection.recv(1 << 16)

    with scripted_server(script) as url, pytest.raises(FetchFailed, match=words):
        nar = NarUrl(f"{url}/nar", "none", None, None)
        bake(made, tmp_path / "cache", nar, step_s=1.0, started=clocks.put)
