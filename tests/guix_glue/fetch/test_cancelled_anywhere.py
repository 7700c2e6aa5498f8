"""A fetch or a look-up that is cancelled, wherever it waits: nothing of it stays."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Any

import pytest

import eris_fs
from eris import MemoryStore
from guix_glue.fetch.dialogue import Substitute
from guix_glue.fetch.fetcher import Fetcher
from guix_glue.fetch.lookup import Lookup
from guix_glue.fetch.narinfo_cache import NarinfoCache
from guix_glue.fetch.session import Policy
from guix_glue.fetch.settings import DEFAULT_SETTINGS
from guix_glue.fetch.substitution import SubstituteSession
from guix_glue.fetch.traces import Messages
from guix_glue.local.installed import InstalledItems
from guix_glue.servers.url import parse_server
from guix_glue.trust.acl import Acl
from tests.guix_glue.fetch.fakes import running_server
from tests.guix_glue.fetch.support import (
    SAMPLES,
    STORE,
    Made,
    assert_canonical,
    make_item,
    make_tree,
    narinfo_of,
    plain_url,
    publish,
)
from tests.guix_glue.fetch.upgrades import make_upgrade

ACL = Acl.parse((SAMPLES / "keys/acl").read_bytes())
# There are fewer places where it waits.
MANY = 300


class CancelledAt:
    """Awaits something, and is cancelled when that waits for the nth time."""

    def __init__(self, awaited: Awaitable[Any], number: int) -> None:
        self._awaited = awaited
        self._left = number

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._awaited.__await__()
        sent: Any = None
        while True:
            try:
                waits_for = steps.send(sent)
            except StopIteration as end:
                return end.value
            self._left -= 1
            if not self._left:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            try:
                sent = yield waits_for
            except BaseException as error:
                # What is awaited learns of it where it waits.
                waits_for = steps.throw(error)
                sent = yield waits_for


async def _outcome(awaited: Awaitable[Any], number: int) -> Any:
    async def run() -> Any:
        return await CancelledAt(awaited, number)

    task = asyncio.create_task(run())
    await asyncio.wait([task])
    return None if task.cancelled() else task.result()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("item") / "tree"
    make_tree(root, big=1_500_000)
    return make_item(root)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def cancel_everywhere(
    start: Callable[[], Awaitable[Any]], check: Callable[[Any], None], *, other_end: bool = False
) -> Callable[[], Awaitable[int]]:
    """Cancel it at its first wait, then at its second, until it comes to its end.

    `other_end`: the process is that of a server too, which has descriptors of its own.
    """

    async def run() -> int:
        for number in range(1, MANY):
            before = descriptors()
            outcome = await _outcome(start(), number)
            assert asyncio.all_tasks() == {asyncio.current_task()}
            assert other_end or descriptors() <= before
            check(outcome)
            if outcome is not None:
                return number
        raise AssertionError("it never ends")

    return run


@pytest.mark.parametrize("source", ["nar", "blocks"])
def test_a_fetch_leaves_nothing(source: str, made: Made, tmp_path: Path) -> None:
    store = MemoryStore()
    site = tmp_path / "site"
    (site / "nar").mkdir(parents=True)
    (site / "nar" / made.item.base_name).write_bytes(made.nar)
    item = tmp_path / "item"

    async def run() -> int:
        urn = (await eris_fs.put_tree(store, made.root)).to_urn() if source == "blocks" else None
        text = narinfo_of(made, [plain_url(made)], urn=urn)
        (site / f"{made.item.hash_part}.narinfo").write_bytes(text)
        messages = Messages(lambda _: None)
        lookup = Lookup([parse_server(f"file://{site}")], messages)
        fetcher = Fetcher(store if urn else None, messages)
        policy = Policy(STORE, ACL, eris=urn is not None, settings=DEFAULT_SETTINGS)
        session = SubstituteSession(policy, lookup, messages, fetcher, deduplicate=False)

        def check(reply: bytes | None) -> None:
            assert os.path.lexists(item) == (reply is not None)
            assert reply is None or reply.startswith(b"success ")

        command = Substitute(made.item.path, str(item))
        return await cancel_everywhere(lambda: session.answer(command), check)()

    assert asyncio.run(run()) > 5
    assert_canonical(item, made.item.nar_hash, made.item.nar_size)


def test_a_fetch_by_a_delta_leaves_nothing(tmp_path: Path) -> None:
    upgrade = make_upgrade(tmp_path)
    site, item = tmp_path / "site", tmp_path / "item"
    site.mkdir()
    narinfo = upgrade.narinfo([upgrade.line], urn=upgrade.packed, urls=[])
    said = bytearray()
    (site / f"{upgrade.new.item.hash_part}.narinfo").write_bytes(narinfo)

    def check(reply: bytes | None) -> None:
        assert os.path.lexists(item) == (reply is not None)
        assert reply is None or reply.startswith(b"success ")

    async def run() -> int:
        messages = Messages(said.extend)
        lookup = Lookup([parse_server(f"file://{site}")], messages)
        fetcher = Fetcher(upgrade.blocks, messages)
        store_dir = str(upgrade.store_dir)
        session = SubstituteSession(
            Policy(store_dir, ACL, eris=True, settings=DEFAULT_SETTINGS),
            lookup,
            messages,
            fetcher,
            deduplicate=False,
            installed=InstalledItems(f"{tmp_path}/none", store_dir),
        )
        command = Substitute(upgrade.new.item.path, str(item))
        return await cancel_everywhere(lambda: session.answer(command), check)()

    assert asyncio.run(run()) > 5
    assert b"by a delta of" in said
    assert b"failed" not in said
    assert_canonical(item, upgrade.new.item.nar_hash, upgrade.new.item.nar_size)


def test_a_look_up_can_be_begun_again(made: Made, tmp_path: Path) -> None:
    cache = NarinfoCache(str(tmp_path / "narinfos"))

    async def run(url: str) -> None:
        messages = Messages(lambda _: None)

        async def find() -> int:
            lookup = Lookup([parse_server(url)], messages, cache=cache)
            try:
                found = await lookup.inquire([made.item.path]).find([made.item.path])
            finally:
                lookup.close()
                # A connection that is let go is closed in the next turn.
                await asyncio.sleep(0)
            return len(found[0][1])

        def check(count: int | None) -> None:
            assert count in (None, 1)

        # From the network, or from what was kept of it before it was cancelled.
        assert await cancel_everywhere(find, check, other_end=True)() > 1

    with running_server() as server:
        publish(server, made)
        asyncio.run(run(server.url))
