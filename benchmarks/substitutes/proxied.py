"""A nar out of blocks through the proxy beside the same nar by HTTP zstd:3, both on loopback.

The client reads the nar, unpacks what is compressed, and hashes it, as stock clients do; it writes
nothing. The blocks are in a daemon of this machine, and the URN is signed. Both servers have sent
the nar before.
"""

from __future__ import annotations

import hashlib
import http.client
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from benchmarks.report import Row, compare
from benchmarks.substitutes.items import Item
from benchmarks.substitutes.programs import (
    HERE,
    PROGRAMS,
    Publication,
    Server,
    Store,
    kaplad,
    publish,
    running,
)
from guix_glue.formats.compression import Compression, decompressor
from guix_glue.formats.narinfo import Narinfo, parse_narinfo
from guix_glue.proxy.routes import nar_url

__all__ = ["run"]

_PIECE: Final = 1024 * 1024
_BAR: Final = 1.5
_GOAL: Final = 1.0


def run(
    scratch: Path, cases: Sequence[tuple[Item, Publication, Publication, int]]
) -> Iterator[Row]:
    """Measure items, each as a tree and as a nar that were baked before, in so many rounds."""
    with kaplad(HERE, scratch / "far") as store:
        for item, tree, nar, rounds in cases:
            with ExitStack() as stack:
                blocks, packed = (
                    stack.enter_context(_published(scratch, one, store)) for one in (tree, nar)
                )
                proxy = stack.enter_context(_proxy(scratch, store, blocks))
                yield _case(item, proxy, packed, rounds)


def _case(item: Item, proxy: str, server: Server, rounds: int) -> Row:
    narinfo = _narinfo(server, item)
    theirs = f"{server.url}/{narinfo.urls[0].url}"
    ours = f"{proxy}/{nar_url(narinfo.item)}"
    for _ in range(2):
        _take(ours, Compression.NONE, narinfo)
        _take(theirs, Compression.ZSTD, narinfo)
    mine, peers = [], []
    for number in range(rounds):
        # Whoever comes first has no advantage over all rounds.
        for turn in (0, 1):
            if (number + turn) % 2:
                mine.append(_take(ours, Compression.NONE, narinfo))
            else:
                peers.append(_take(theirs, Compression.ZSTD, narinfo))
    return compare(
        f"loopback: {item.label}: nar through the proxy, warm / HTTP zstd:3",
        mine,
        peers,
        "s",
        _BAR,
        _GOAL,
        at_most=True,
        note="a client that unpacks and hashes it",
    )


def _take(url: str, method: Compression, narinfo: Narinfo) -> float:
    """Read a nar to its end; in seconds."""
    parts = urlsplit(url)
    unpacking, digest = decompressor(method), hashlib.sha256()
    begin = time.perf_counter()
    connection = http.client.HTTPConnection(parts.netloc)
    connection.request("GET", parts.path)
    reply = connection.getresponse()
    while data := reply.read1(_PIECE):
        for piece in unpacking.feed(data):
            digest.update(piece)
    took = time.perf_counter() - begin
    connection.close()
    if digest.digest() != narinfo.item.nar_hash:
        raise RuntimeError(f"{url} did not send the nar")
    return took


def _narinfo(server: Server, item: Item) -> Narinfo:
    connection = http.client.HTTPConnection(HERE.address, server.port)
    connection.request("GET", f"/{item.hash_part}.narinfo")
    text = connection.getresponse().read()
    connection.close()
    return parse_narinfo(text, store_dir=server.store_dir)


@contextmanager
def _published(scratch: Path, publication: Publication, store: Store) -> Iterator[Server]:
    with publish(
        HERE,
        publication,
        items=scratch / "items",
        cache=scratch / "cache new",
        keys=scratch / "etc",
        store=store.url,
    ) as server:
        yield server


@contextmanager
def _proxy(scratch: Path, store: Store, server: Server) -> Iterator[str]:
    command = [str(PROGRAMS / "kapla"), "proxy", "--port", "0", "--upstream", server.url]
    command += ["--acl", str(scratch / "etc" / "acl"), "--cache", str(scratch / "proxy")]
    command += ["--eris-store-url", store.url]
    with running(command, scratch / "proxy.log", r"Listening on (http://\S+)") as (_, url):
        yield url
