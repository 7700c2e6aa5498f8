"""What a request costs: none makes the publisher work much more than a narinfo that is kept does.

Work is counted, not timed: files opened and looked at, signatures made, nars hashed, jobs of worker
threads. A whole nar is not in the table: it costs by its bytes.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from guix_glue.formats.compression import parse_choice
from guix_glue.kept.directory import CacheDirectory
from guix_glue.local.build_logs import BuildLogs
from guix_glue.local.item_directory import DirectoryItems
from guix_glue.publish.cache import BakedCache
from guix_glue.publish.key_files import read_guix_keys
from guix_glue.publish.local_source import LocalSource
from guix_glue.publish.model import PublishOptions
from guix_glue.publish.narinfos import NarinfoWriter
from guix_glue.publish.site import Site
from guix_glue.serving.conditions import conditional
from guix_glue.serving.reply import Request
from tests.guix_glue.publish.support import SAMPLES, make_item

ITEMS = 50
KEYS = (SAMPLES / "keys" / "signing-key.pub", SAMPLES / "keys" / "signing-key.sec")
COUNTED = (
    *("os.open", "os.lstat", "os.listdir", "os.scandir", "os.path.lexists"),
    *("guix_glue.publish.narinfos.sign_text", "guix_glue.local.hashing.hash_steps"),
    *("asyncio.base_events.BaseEventLoop.run_in_executor", "pathlib.Path.open"),
)


@contextmanager
def counting() -> Iterator[Counter[str]]:
    """How often each of these is called."""
    calls: Counter[str] = Counter()

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            calls[name] += 1
            return function(*args, **options)

        return call

    with ExitStack() as stack:
        for name in COUNTED:
            patched = mock.patch(name)
            original = patched.get_original()[0]
            stack.enter_context(mock.patch(name, counted(name, original)))
        yield calls


@asynccontextmanager
async def site_over(tmp_path: Path) -> AsyncIterator[tuple[Site, LocalSource, Path]]:
    items = tmp_path / "items"
    items.mkdir()
    for number in range(ITEMS):
        # Half of them have the path of their content.
        path = make_item(items, f"item-{number}") if number % 2 else items / f"entry-{number}"
        path.mkdir()
        (path / "file").write_text(str(number))
    directory = CacheDirectory(tmp_path / "cache")
    options = PublishOptions("/gnu/store", (parse_choice("gzip:3"),))
    source = LocalSource(
        DirectoryItems(str(items), "/gnu/store"),
        BuildLogs(str(tmp_path / "logs")),
        BakedCache(directory),
        NarinfoWriter(read_guix_keys(*KEYS, "host")),
        options,
        None,
        workers=1,
    )
    try:
        yield (
            Site(source, options, public_key=b"key", eris=False),
            source,
            make_item(items, "item-1"),
        )
    finally:
        await source.close()
        directory.close()


ABSENT = "0" * 32
FIXED = "/file/{}/sha256/1q75lkb8cn0m7dcngfzg06wr2002w5nvj4fi5ba615fh42gnwqqz"
REQUESTS = {
    "a narinfo": Request("GET", "/{hash}.narinfo"),
    "a narinfo that is not there": Request("GET", f"/{ABSENT}.narinfo"),
    "the head of a plain nar": Request("HEAD", "/nar/{name}"),
    "a plain nar that is not there": Request("GET", f"/nar/{ABSENT}-x"),
    "the head of a baked nar": Request("HEAD", "/nar/gzip/{name}"),
    "a byte of a baked nar": Request("GET", "/nar/gzip/{name}", range="bytes=0-0"),
    "a part that there is not": Request("GET", "/nar/gzip/{name}", range="bytes=999999-"),
    "a baked nar that the client has": Request("GET", "/nar/gzip/{name}", if_none_match="*"),
    "a baked nar that is not there": Request("GET", f"/nar/gzip/{ABSENT}-x"),
    "a compression that is not there": Request("GET", "/nar/zstd/{name}"),
    "a log": Request("GET", "/log/{name}"),
    "a log that is not there": Request("GET", f"/log/{ABSENT}-x"),
    "a fixed output that is not there": Request("GET", FIXED.format("x")),
    "the landing page": Request("GET", "/"),
    "the key": Request("GET", "/signing-key.pub"),
    "about the cache": Request("GET", "/nix-cache-info"),
    "nothing": Request("GET", "/" + "x/" * 2000),
    "another method": Request("POST", "/{hash}.narinfo"),
}


def test_no_request_costs_much_more_than_a_narinfo(tmp_path: Path) -> None:
    async def main() -> None:
        async with site_over(tmp_path) as (site, source, path):

            async def ask(request: Request) -> None:
                where = request.path.format(hash=path.name[:32], name=path.name)
                asked = Request(
                    request.method, where, request.range, request.if_range, request.if_none_match
                )
                conditional(asked, await site.answer(asked)).close()

            await ask(REQUESTS["a narinfo"])
            await source.queue.idle()
            for request in REQUESTS.values():
                # What is done for the first one only, as hashing what is in the directory.
                await ask(request)
            costs: dict[str, Counter[str]] = {}
            for name, request in REQUESTS.items():
                with counting() as calls:
                    for _ in range(10):
                        await ask(request)
                costs[name] = calls
        # A narinfo: an item is looked for, and nothing signed or hashed again.
        usual = costs["a narinfo"]
        assert usual["asyncio.base_events.BaseEventLoop.run_in_executor"] == 10
        for name, calls in costs.items():
            assert not calls["guix_glue.publish.narinfos.sign_text"], name
            assert not calls["guix_glue.local.hashing.hash_steps"], name
            assert not calls["os.listdir"] + calls["os.scandir"], name
            assert calls.total() <= 3 * usual.total(), (name, calls, usual)

    # The directory of items is not one that changes just now.
    later = time.time_ns() + 10**10
    with mock.patch("time.time_ns", lambda: later):
        asyncio.run(main())
