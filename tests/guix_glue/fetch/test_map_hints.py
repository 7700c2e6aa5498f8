"""Items for which nobody signed a URN, by what maps say; in this process, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

import eris_fs
from eris import MemoryStore
from eris.errors import StoreUnavailable
from eris.model import BlockSize, Reference
from eris.store import BlockReader
from eris.transfer import put_content
from guix_glue.fetch.dialogue import Substitute
from guix_glue.fetch.fetcher import Fetcher
from guix_glue.fetch.lookup import Lookup
from guix_glue.fetch.session import Policy
from guix_glue.fetch.settings import DEFAULT_SETTINGS
from guix_glue.fetch.substitution import SubstituteSession
from guix_glue.fetch.traces import Messages
from guix_glue.servers.url import parse_server
from tests.guix_glue.fetch.bringing import ACL
from tests.guix_glue.fetch.fakes import FakeServer, running_server
from tests.guix_glue.fetch.support import STORE, Made, assert_canonical, make_item, publish
from tests.guix_glue.maps.entries import a_urn


@dataclass(frozen=True)
class Stored:
    made: Made
    store: MemoryStore
    urn: str
    other_tree: str
    no_tree: str


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    root = tmp_path_factory.mktemp("item")
    for name in ("tree", "other"):
        (root / name).mkdir()
        (root / name / "file").write_text(name * 1000)
    store = MemoryStore()

    async def put() -> list[str]:
        capabilities = [
            await eris_fs.put_packed_tree(store, root / "tree", level=1),
            await eris_fs.put_packed_tree(store, root / "other", level=1),
            await put_content(store, b"no tree"),
        ]
        return [capability.to_urn() for capability in capabilities]

    return Stored(make_item(root / "tree"), store, *asyncio.run(put()))


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with running_server() as one:
        yield one


class Hints:
    """A map that says these URNs, and notes what it is told."""

    def __init__(self, *urns: str) -> None:
        self.asked: list[str] = []
        self.forgotten: list[tuple[str, str]] = []
        self._urns = urns

    async def urns(self, hash_part: str) -> Sequence[str]:
        self.asked.append(hash_part)
        return self._urns

    async def forget(self, hash_part: str, urn: str) -> None:
        self.forgotten.append((hash_part, urn))


class Down:
    """A store that cannot be reached."""

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        raise StoreUnavailable("it is down")


def bring(
    stored: Stored,
    destination: Path,
    server: FakeServer,
    hints: Hints,
    *,
    store: BlockReader | None,
    times: int = 1,
) -> str:
    """Have the item brought; returns what the user is told."""
    written = bytearray()

    async def run() -> None:
        messages = Messages(written.extend)
        lookup = Lookup([parse_server(server.url)], messages)
        fetcher = Fetcher(store, messages, hints=hints)
        policy = Policy(STORE, ACL, store is not None, DEFAULT_SETTINGS)
        session = SubstituteSession(policy, lookup, messages, fetcher, deduplicate=False)
        item = stored.made.item
        try:
            for number in range(times):
                place = destination.with_name(f"{destination.name}{number or ''}")
                reply = await session.answer(Substitute(item.path, str(place)))
                assert reply.startswith(b"success "), written
                assert_canonical(place, item.nar_hash, item.nar_size)
        finally:
            lookup.close()
            await fetcher.close()

    asyncio.run(run())
    return written.decode()


def nars_asked(server: FakeServer) -> bool:
    return any(path.startswith("/nar/") for path in server.requests)


def test_what_nobody_signed_comes_by_the_word_of_a_map(
    stored: Stored, server: FakeServer, tmp_path: Path
) -> None:
    publish(server, stored.made)
    hints = Hints("urn:eris:nonsense", stored.urn)
    messages = bring(stored, tmp_path / "item", server, hints, store=stored.store)
    assert hints.asked == [stored.made.item.hash_part]
    assert not hints.forgotten
    assert not nars_asked(server)
    assert stored.urn[:30] not in messages


def test_wrong_hints_cost_a_line_each_and_are_forgotten(
    stored: Stored, server: FakeServer, tmp_path: Path
) -> None:
    publish(server, stored.made)
    wrong = [stored.other_tree, stored.no_tree]
    hints = Hints(*wrong)
    messages = bring(stored, tmp_path / "item", server, hints, store=stored.store)
    assert hints.forgotten == [(stored.made.item.hash_part, urn) for urn in wrong]
    assert messages.count("failed") == 2
    assert nars_asked(server)
    assert [path.name for path in tmp_path.iterdir()] == ["item"]


def test_blocks_that_are_not_there_say_nothing_of_the_hint(
    stored: Stored, server: FakeServer, tmp_path: Path
) -> None:
    publish(server, stored.made)
    hints = Hints(a_urn(1))
    bring(stored, tmp_path / "item", server, hints, store=stored.store)
    assert not hints.forgotten
    assert nars_asked(server)


def test_no_map_is_asked_where_a_urn_is_signed(
    stored: Stored, server: FakeServer, tmp_path: Path
) -> None:
    publish(server, stored.made, urn=stored.urn)
    hints = Hints(stored.other_tree)
    bring(stored, tmp_path / "item", server, hints, store=stored.store)
    assert not hints.asked
    assert not nars_asked(server)


def test_a_signed_urn_that_is_none_is_no_urn(
    stored: Stored, server: FakeServer, tmp_path: Path
) -> None:
    publish(server, stored.made, urn="urn:eris:nonsense")
    bring(stored, tmp_path / "item", server, Hints(stored.urn), store=stored.store)
    assert not nars_asked(server)


def test_hints_of_servers_are_not_followed_because_of_a_map(
    stored: Stored, server: FakeServer, tmp_path: Path
) -> None:
    publish(server, stored.made, hint=stored.other_tree)
    messages = bring(stored, tmp_path / "item", server, Hints(stored.urn), store=stored.store)
    assert "failed" not in messages


def test_no_map_is_asked_where_there_are_no_blocks(
    stored: Stored, server: FakeServer, tmp_path: Path
) -> None:
    publish(server, stored.made)
    hints = Hints(stored.urn)
    bring(stored, tmp_path / "item", server, hints, store=None)
    assert not hints.asked
    bring(stored, tmp_path / "more", server, hints, store=Down(), times=3)
    assert len(hints.asked) == 1
