"""The nars of a proxy, in a process of their own, with narinfos that stock Nix reads.

python -m benchmarks.substitutes.one_proxy STORE-URL CACHE STORE-DIR SERVER HASH-PART…
"""

from __future__ import annotations

import asyncio
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from guix_glue.formats.narinfo import NarUrl, format_narinfo, format_unsigned, parse_narinfo
from guix_glue.kept.directory import CacheDirectory
from guix_glue.proxy.nars import Nars
from guix_glue.servers.url import parse_server
from guix_glue.serving.http_server import HttpServer
from guix_glue.serving.listening import bind_sockets, url_of
from guix_glue.serving.reply import NARINFO_TYPE, TEXT_TYPE, Reply, Request
from guix_glue.sources.vouching import Candidate, Vouched
from guix_glue.trust.acl import Acl
from guix_glue.upstream.servers import Upstream
from kapla.client import open_store
from kapla.http.serving.connections import ConnectionLimits
from kapla.stopping import stop_event


class _Site:
    """Some items."""

    def __init__(self, nars: Nars, store_dir: str, items: Mapping[str, Vouched]) -> None:
        self._nars = nars
        self._items = items
        self._pages = {"nix-cache-info": f"StoreDir: {store_dir}\n".encode()}
        self._pages |= {f"{name}.narinfo": _narinfo(one) for name, one in items.items()}

    async def answer(self, request: Request) -> Reply:
        name = request.path.strip("/")
        if name in self._pages:
            return Reply(200, NARINFO_TYPE, self._pages[name])
        vouched = self._items.get(name.removeprefix("nar/"))
        reply = None if vouched is None else await self._nars.reply(vouched)
        return reply or Reply(404, TEXT_TYPE, b"not here")

    def expect(self, paths: Sequence[str]) -> None:
        """They are known."""


def _narinfo(vouched: Vouched) -> bytes:
    item = vouched.narinfo.item
    url = NarUrl(f"nar/{item.hash_part}", "none", item.nar_size, None)
    return format_narinfo(format_unsigned(item, None), None, (url,))


def _vouched(server: str, store_dir: str, hash_part: str) -> Vouched:
    with urllib.request.urlopen(f"{server}/{hash_part}.narinfo") as reply:
        narinfo = parse_narinfo(reply.read(), store_dir=store_dir)
    return Vouched(narinfo, (Candidate(parse_server(server), narinfo),))


async def _serve(store_url: str, cache: str, store_dir: str, server: str, *hash_parts: str) -> None:
    items = {hash_part: _vouched(server, store_dir, hash_part) for hash_part in hash_parts}
    stopping = stop_event()
    upstream = Upstream((), Acl(), store_dir)
    async with open_store(store_url) as store:
        nars = Nars(store, upstream, CacheDirectory(Path(cache)))
        http = HttpServer(_Site(nars, store_dir, items), ConnectionLimits())
        sockets = bind_sockets("127.0.0.1", 0)
        await http.start(sockets)
        print(f"Listening on {url_of(sockets[0])}", flush=True)
        await stopping.wait()
        await http.stop()
        await nars.close()
        await upstream.close()


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))
