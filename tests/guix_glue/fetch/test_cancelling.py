"""Whatever is under way is cancelled at every turn of the loop: nothing may be left behind."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from guix_glue.errors import GuixError
from guix_glue.fetch.nar_client import NarClient
from guix_glue.fetch.narinfo_client import LARGEST_ANSWER, NarinfoClient
from guix_glue.formats.compression import Compression
from guix_glue.servers.nars import NarEnd, NarSource
from guix_glue.servers.proxies import Proxies
from guix_glue.servers.url import parse_server
from tests.guix_glue.fetch.fakes import Reply, running_server, self_signed
from tests.guix_glue.fetch.proxy import running_proxy
from tests.guix_glue.servers.scripts import answer, rest_of, scripted
from tests.integration.daemon import GUARD_S

pytestmark = pytest.mark.filterwarnings("error")

PARTS = [f"{number:032d}" for number in range(5)]
NAR = bytes(10_000)

Do = Callable[[], Awaitable[object]]


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def cancelled_after(turns: int, do: Do) -> bool:
    """Whether it was done before that."""
    task = asyncio.ensure_future(do())
    for _ in range(turns):
        if task.done():
            break
        await asyncio.sleep(0)
    done = task.done()
    task.cancel()
    await asyncio.wait([task])
    if done and not task.cancelled() and (error := task.exception()):
        assert isinstance(error, GuixError)
    return done


def cancel_everywhere(do: Do) -> None:
    """Do it again and again, each time a little further."""
    complaints: list[dict[str, Any]] = []

    async def run(turns: int) -> bool:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        before = open_descriptors()
        done = await cancelled_after(turns, do)
        # The loop ends and closes what it was told to, and servers what they have of it, in a few
        # turns.
        async with asyncio.timeout(GUARD_S):
            while open_descriptors() > before or len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        return done

    turns = 0
    while not asyncio.run(run(turns)):
        gc.collect()
        turns += 1 + turns // 3
    assert complaints == []
    assert turns > 5


def narinfos(url: str, proxies: Proxies) -> Do:
    async def do() -> None:
        client = NarinfoClient(parse_server(url), memory=5 * LARGEST_ANSWER, proxies=proxies)
        try:
            await client.fetch(PARTS, lambda: None, 60.0)
        finally:
            client.close()

    return do


def nar(url: str, proxies: Proxies) -> Do:
    async def do() -> None:
        client = NarClient(5.0, proxies)
        try:
            source = NarSource(f"{url}/nar", Compression.XZ, None)
            stream = client.stream(source, len(NAR), NarEnd())
            async with aclosing(stream) as pieces:
                assert b"".join([piece async for piece in pieces]) == NAR
        finally:
            await client.close()

    return do


@contextmanager
def way(
    kind: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, Proxies]]:
    """A server with narinfos and a nar, some redirected, and how to ask it."""
    context = None
    if kind == "by a tunnel":
        context = self_signed(directory / "certificate")
        monkeypatch.setenv("SSL_CERT_FILE", str(directory / "certificate"))
    with running_server(context) as server, running_proxy({}) as proxy:
        authority = server.url.partition("//")[2]
        proxy.targets[authority] = server.url
        server.files |= {f"/{part}.narinfo": b"text" for part in PARTS[:3]}
        server.files[f"/{PARTS[3]}.narinfo"] = Reply(b"", 302, {"Location": "/x"})
        server.files["/nar"] = NAR
        environ = {} if kind == "directly" else {"all_proxy": proxy.url}
        yield server.url, Proxies(environ)


@pytest.mark.parametrize("what", [narinfos, nar])
@pytest.mark.parametrize("kind", ["directly", "by a proxy", "by a tunnel"])
def test_nothing_is_left_behind(
    kind: str,
    what: Callable[[str, Proxies], Do],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with way(kind, tmp_path, monkeypatch) as (url, proxies):
        cancel_everywhere(what(url, proxies))


def test_nor_of_a_nar_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    # A pause is as good as another turn.
    monkeypatch.setattr("guix_glue.servers.patience._FIRST_S", 0.001)
    first = answer(NAR, 'ETag: "x"', cut=5000)

    def either(head: str) -> bytes:
        return rest_of(NAR)(head) if "\r\nRange: " in head else first

    with scripted(either) as server:
        cancel_everywhere(nar(server.url, Proxies({})))


def test_nor_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "nar").write_bytes(NAR)

    async def do() -> None:
        source = NarSource("file:///", Compression.NONE, None, path=str(tmp_path / "nar"))
        async with aclosing(NarClient(5.0).stream(source, len(NAR), NarEnd())) as pieces:
            assert b"".join([piece async for piece in pieces]) == NAR

    cancel_everywhere(do)
