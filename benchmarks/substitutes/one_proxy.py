"""The nars of a proxy, in a process of their own: each under the hash part of its item.

python -m benchmarks.substitutes.one_proxy STORE-URL CACHE SERVER HASH-PART…
"""

from __future__ import annotations

import asyncio
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from guix_glue.formats.narinfo import parse_narinfo
from guix_glue.kept.directory import CacheDirectory
from guix_glue.proxy.nars import Nars
from guix_glue.servers.url import parse_server
from guix_glue.serving.http_server import HttpServer
from guix_glue.serving.listening import bind_sockets, url_of
from guix_glue.serving.reply import TEXT_TYPE, Reply, Request
from guix_glue.sources.vouching import Candidate, Vouched
from guix_glue.trust.authorities import Authorities
from guix_glue.upstream.servers import Upstream
from kapla.client import open_store
from kapla.http.serving.connections import ConnectionLimits
from kapla.stopping import stop_event

_STORE_DIR = "/gnu/store"


class _Site:
    """The nars of some items."""

    def __init__(self, nars: Nars, items: Mapping[str, Vouched]) -> None:
        self._nars = nars
        self._items = items

    async def answer(self, request: Request) -> Reply:
        vouched = self._items.get(request.path.strip("/"))
        reply = None if vouched is None else await self._nars.reply(vouched)
        return reply or Reply(404, TEXT_TYPE, b"not here")

    def expect(self, paths: Sequence[str]) -> None:
        """There are no narinfos."""


def _vouched(server: str, hash_part: str) -> Vouched:
    with urllib.request.urlopen(f"{server}/{hash_part}.narinfo") as reply:
        narinfo = parse_narinfo(reply.read(), store_dir=_STORE_DIR)
    return Vouched(narinfo, (Candidate(parse_server(server), narinfo),))


async def _serve(store_url: str, cache: str, server: str, *hash_parts: str) -> None:
    items = {hash_part: _vouched(server, hash_part) for hash_part in hash_parts}
    stopping = stop_event()
    async with open_store(store_url) as store:
        nars = Nars(store, Upstream((), Authorities(), _STORE_DIR), CacheDirectory(Path(cache)))
        http = HttpServer(_Site(nars, items), ConnectionLimits())
        sockets = bind_sockets("127.0.0.1", 0)
        await http.start(sockets)
        print(f"Listening on {url_of(sockets[0])}", flush=True)
        await stopping.wait()
        await http.stop()
        await nars.close()


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:]))
