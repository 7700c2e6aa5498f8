"""One item at a time, from servers and stores good and bad; in this process, over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat
from pathlib import Path
from queue import SimpleQueue

import pytest

import eris_fs
from eris import MemoryStore
from eris.errors import BlockNotFound, StoreUnavailable
from eris.model import BlockSize, Reference
from eris.store import BlockReader
from eris.transfer import put_content
from guix_glue.fetch.dialogue import Substitute
from guix_glue.fetch.fetcher import Fetcher
from guix_glue.fetch.lookup import Lookup
from guix_glue.fetch.places import Places
from guix_glue.fetch.session import Policy
from guix_glue.fetch.settings import DEFAULT_SETTINGS, FetchSettings
from guix_glue.fetch.substitution import SubstituteSession
from guix_glue.fetch.traces import Messages
from guix_glue.formats.compression import compressor, parse_choice
from guix_glue.formats.narinfo import NarUrl
from guix_glue.formats.store_path import format_hash
from guix_glue.servers.url import parse_server
from guix_glue.trust.acl import Acl
from tests.clocks import Clock, run_on_clock
from tests.guix_glue.fetch.bringing import bring
from tests.guix_glue.fetch.fakes import (
    FakeServer,
    Reply,
    nar_without_an_end,
    running_server,
    scripted_server,
)
from tests.guix_glue.fetch.support import (
    SAMPLES,
    Made,
    assert_canonical,
    make_item,
    make_tree,
    narinfo_of,
    plain_url,
    publish,
    with_unsigned_size,
)

ACL = Acl.parse((SAMPLES / "keys/acl").read_bytes())
NOT_FOUND = b"not-found\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("item") / "tree"
    make_tree(root)
    return make_item(root)


@dataclass(frozen=True)
class Outcome:
    reply: bytes
    messages: str


def substitute(
    made: Made,
    destination: Path,
    *urls: str,
    store: BlockReader | None = None,
    settings: FetchSettings = DEFAULT_SETTINGS,
    store_dir: str = "/gnu/store",
    deduplicate: bool = False,
    extended: bool = True,
    started: Callable[[Clock], None] = lambda _: None,
    places: Places | None = None,
) -> Outcome:
    """Let a session answer one command; `started` is told of the clock that it has."""
    written = bytearray()

    async def run(clock: Clock) -> bytes:
        started(clock)
        messages = Messages(written.extend, extended=extended)
        lookup = Lookup([parse_server(url) for url in urls], messages)
        policy = Policy(store_dir, ACL, store is not None, settings)
        fetcher = Fetcher(store, messages, settings, places=places)
        session = SubstituteSession(policy, lookup, messages, fetcher, deduplicate=deduplicate)
        try:
            return await session.answer(Substitute(made.item.path, str(destination)))
        finally:
            lookup.close()
            await fetcher.close()

    return Outcome(run_on_clock(run), written.decode())


def success(made: Made) -> bytes:
    return f"success {format_hash(made.item.nar_hash)} {made.item.nar_size}\n".encode()


def assert_fetched(outcome: Outcome, made: Made, destination: Path) -> None:
    assert outcome.reply == success(made), outcome
    assert_canonical(destination, made.item.nar_hash, made.item.nar_size)


def assert_nothing(outcome: Outcome, destination: Path, reply: bytes = NOT_FOUND) -> None:
    assert outcome.reply == reply, outcome
    assert not os.path.lexists(destination)


def traces(outcome: Outcome) -> list[str]:
    return [line for line in outcome.messages.split("\n") if line.startswith("@ ")]


def nars_asked(server: FakeServer) -> list[str]:
    return [path for path in server.requests if path.startswith("/nar")]


# --- over HTTP --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["none", "gzip", "zstd", "lzip"])
@pytest.mark.parametrize("with_length", [True, False])
def test_each_compression(method: str, with_length: bool, made: Made, tmp_path: Path) -> None:
    packing = compressor(parse_choice(method))
    nar = packing.feed(made.nar) + packing.finish()
    with running_server() as server:
        publish(server, made, NarUrl("nar/x", method, None, None))
        server.files["/nar/x"] = Reply(nar, with_length=with_length)
        outcome = substitute(made, tmp_path / "item", server.url)
        assert_fetched(outcome, made, tmp_path / "item")
        lines = traces(outcome)
        assert lines[0] == f"@ download-started {tmp_path}/item {server.url}/nar/x -"
        # How many there are of these depends on the time that it takes.
        assert lines[-2] == f"@ download-progress {tmp_path}/item {server.url}/nar/x - {len(nar)}"
        assert lines[-1] == f"@ download-succeeded {tmp_path}/item {server.url}/nar/x {len(nar)}"
        assert outcome.messages.endswith(f"{lines[-1]}\n\n")


def test_a_nar_whose_end_nobody_tells(made: Made, tmp_path: Path) -> None:
    script = nar_without_an_end(made.nar)
    with running_server() as server, scripted_server(script) as url:
        publish(server, made, NarUrl(f"{url}/nar", "none", None, None))
        outcome = substitute(made, tmp_path / "item", server.url)
        assert_fetched(outcome, made, tmp_path / "item")


def test_a_password_is_for_the_nar_too_but_not_for_others(made: Made, tmp_path: Path) -> None:
    with running_server() as server, running_server() as other:
        publish(server, made)
        publish(other, made)
        moved = Reply(b"", 307, {"Location": f"{other.url}/nar/{made.item.base_name}"})
        server.files[f"/nar/{made.item.base_name}"] = moved
        url = server.url.replace("http://", "http://me:secret@")
        outcome = substitute(made, tmp_path / "item", url)
        assert_fetched(outcome, made, tmp_path / "item")
        assert all("Authorization" in headers for headers in server.headers)
        assert all("Authorization" not in headers for headers in other.headers)
        assert "secret" not in outcome.messages


def test_redirects_of_nars(made: Made, tmp_path: Path) -> None:
    name = made.item.base_name
    with running_server() as server:
        publish(server, made)
        server.files[f"/nar/{name}"] = Reply(b"", 302, {"Location": "../elsewhere?x=y"})
        server.files["/elsewhere?x=y"] = made.nar
        url = server.url.replace("http://", "http://me:secret@")
        outcome = substitute(made, tmp_path / "item", url)
        assert_fetched(outcome, made, tmp_path / "item")
        # It is still the server whose password it is.
        assert all("Authorization" in headers for headers in server.headers)
        for target, reason in (
            (f"/nar/{name}", "again and again"),
            ("file:///etc/passwd", "neither http nor https"),
            ("http://[", "what is no URL"),
        ):
            server.files[f"/nar/{name}"] = Reply(b"", 302, {"Location": target})
            outcome = substitute(made, tmp_path / "other", server.url)
            assert_nothing(outcome, tmp_path / "other")
            assert reason in outcome.messages
        assert len(nars_asked(server)) < 10


def test_the_smallest_nar_is_got_and_else_the_next(made: Made, tmp_path: Path) -> None:
    name = made.item.base_name
    urls = [plain_url(made), NarUrl(f"nar/gzip/{name}", "gzip", 900, None)]
    with running_server() as server:
        publish(server, made, NarUrl("nar/gone", "zstd", 20, None), *urls)
        outcome = substitute(made, tmp_path / "item", server.url)
        assert_fetched(outcome, made, tmp_path / "item")
        assert nars_asked(server) == ["/nar/gone", f"/nar/gzip/{name}"]
        assert "/nar/gone' failed: the server answers 404\n" in outcome.messages


def test_the_next_server(made: Made, tmp_path: Path) -> None:
    with running_server() as empty, running_server() as broken, running_server() as good:
        publish(broken, made)
        broken.files[f"/nar/{made.item.base_name}"] = made.nar[:-8]
        publish(good, made)
        outcome = substitute(made, tmp_path / "item", empty.url, broken.url, good.url)
        assert_fetched(outcome, made, tmp_path / "item")


def test_an_unsigned_server_brings_what_another_one_vouches_for(made: Made, tmp_path: Path) -> None:
    with running_server() as near, running_server() as far:
        publish(near, made)
        near.files[f"/{made.item.hash_part}.narinfo"] = narinfo_of(
            made, [plain_url(made)], key=None
        )
        publish(far, made)
        outcome = substitute(made, tmp_path / "item", near.url, far.url)
        assert_fetched(outcome, made, tmp_path / "item")
        assert nars_asked(near) and not nars_asked(far)


def test_an_unsigned_server_that_says_something_else_is_not_asked(
    made: Made, tmp_path: Path
) -> None:
    other = replace(made, item=replace(made.item, nar_hash=bytes(32)))
    with running_server() as near, running_server() as far:
        near.files[f"/{made.item.hash_part}.narinfo"] = narinfo_of(
            other, [plain_url(made)], key=None
        )
        publish(far, made)
        assert_fetched(
            substitute(made, tmp_path / "item", near.url, far.url), made, tmp_path / "item"
        )
        assert not nars_asked(near)


def test_another_build_of_the_same_item_by_the_next_server(made: Made, tmp_path: Path) -> None:
    first = replace(made, item=replace(made.item, nar_hash=bytes(32)))
    with running_server() as one, running_server() as two:
        publish(one, first)
        publish(two, made)
        del one.files[f"/nar/{made.item.base_name}"]
        outcome = substitute(made, tmp_path / "item", one.url, two.url)
        assert_fetched(outcome, made, tmp_path / "item")


def test_no_key_no_item(made: Made, tmp_path: Path) -> None:
    with running_server() as server:
        for text in (
            narinfo_of(made, [plain_url(made)], key=None),
            narinfo_of(made, [plain_url(made)]).replace(b"NarSize: ", b"NarSize: 1"),
            narinfo_of(made, [plain_url(made)]).replace(b"\n", b"\r\n"),
            b"StorePath: x\n",
            b"\0",
        ):
            publish(server, made)
            server.files[f"/{made.item.hash_part}.narinfo"] = text
            assert_nothing(substitute(made, tmp_path / "item", server.url), tmp_path / "item")
        assert not nars_asked(server)


def test_the_wrong_bytes(made: Made, tmp_path: Path) -> None:
    wrong = made.nar.replace(b"t" * 8192, b"u" * 8192)
    with running_server() as one, running_server() as two:
        publish(one, made)
        publish(two, made)
        one.files[f"/nar/{made.item.base_name}"] = wrong
        expected = make_wrong(made, wrong)
        outcome = substitute(made, tmp_path / "item", one.url)
        assert_nothing(outcome, tmp_path / "item", expected)
        # Also when another source fails otherwise, and success when one does not fail.
        two.files[f"/nar/{made.item.base_name}"] = Reply(b"", 500)
        assert bring(made, tmp_path / "item", two.url, one.url).reply == expected
        assert not os.path.lexists(tmp_path / "item")
        two.files[f"/nar/{made.item.base_name}"] = made.nar
        outcome = substitute(made, tmp_path / "item", one.url, two.url)
        assert_fetched(outcome, made, tmp_path / "item")


def make_wrong(made: Made, nar: bytes) -> bytes:
    import hashlib

    shown = [format_hash(one)[7:] for one in (made.item.nar_hash, hashlib.sha256(nar).digest())]
    return f"hash-mismatch sha256 {shown[0]} {shown[1]}\n".encode()


def endless(start: bytes, more: bytes) -> Sequence[bytes]:
    return chain([start], repeat(more))  # type: ignore[return-value]


@pytest.mark.parametrize("kind", ["behind the nar", "zeroes", "empty gzip members", "gzip bomb"])
def test_a_source_without_end_is_cut_off(kind: str, made: Made, tmp_path: Path) -> None:
    method, start, more = {
        "behind the nar": ("none", made.nar, bytes(1 << 16)),
        "zeroes": ("none", b"", bytes(1 << 16)),
        "empty gzip members": ("gzip", b"", gzip.compress(b"") * 4096),
        "gzip bomb": ("gzip", b"", gzip.compress(bytes(1 << 26))),
    }[kind]
    cut = []

    def script(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + start)
        try:
            while True:
                connection.sendall(more)
        except OSError:
            cut.append(True)
            raise

    with running_server() as server, scripted_server(script) as url:
        publish(server, made, NarUrl(f"{url}/nar", method, None, None))
        outcome = substitute(made, tmp_path / "item", server.url)
        if kind == "behind the nar":
            # Nobody said how long it is, so that it ends where the nar does; if more came with
            # the end, that is not a nar.
            assert outcome.reply in (success(made), NOT_FOUND)
        else:
            assert_nothing(outcome, tmp_path / "item")
    assert cut == [True]


def test_a_size_that_nobody_signed_is_limited(made: Made, tmp_path: Path) -> None:
    with running_server() as server:
        publish(server, made)
        server.files[f"/{made.item.hash_part}.narinfo"] = with_unsigned_size(made)
        outcome = substitute(made, tmp_path / "item", server.url)
        assert_fetched(outcome, made, tmp_path / "item")
        settings = replace(DEFAULT_SETTINGS, max_unsigned_size=made.item.nar_size - 1)
        outcome = substitute(made, tmp_path / "other", server.url, settings=settings)
        assert_nothing(outcome, tmp_path / "other")


def test_a_server_that_stalls(made: Made, tmp_path: Path) -> None:
    clocks = SimpleQueue[Clock]()

    def script(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        length = f"Content-Length: {len(made.nar)}\r\n\r\n".encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + length + made.nar[:1000])
        clock = clocks.get()
        clock.settle()
        clock.skip(DEFAULT_SETTINGS.nar_stall_s)
        connection.recv(1 << 16)

    with running_server() as server, running_server() as good, scripted_server(script) as url:
        publish(server, made, NarUrl(f"{url}/nar", "none", None, None))
        publish(good, made)
        item = tmp_path / "item"
        outcome = substitute(made, item, server.url, good.url, started=clocks.put)
        assert_fetched(outcome, made, item)
        assert "nothing comes any more" in outcome.messages


def test_a_server_that_drips(made: Made, tmp_path: Path) -> None:
    # Never silent for as long as it would have to be, and never done.
    clocks = SimpleQueue[Clock]()

    def script(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        length = f"Content-Length: {len(made.nar)}\r\n\r\n".encode()
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + length)
        clock = clocks.get()
        for place in range(7):
            connection.sendall(made.nar[place : place + 1])
            clock.settle()
            clock.skip(DEFAULT_SETTINGS.nar_stall_s / 6)
        connection.recv(1 << 16)

    with running_server() as server, running_server() as good, scripted_server(script) as url:
        publish(server, made, NarUrl(f"{url}/nar", "none", None, None))
        publish(good, made)
        item = tmp_path / "item"
        outcome = substitute(made, item, server.url, good.url, started=clocks.put)
        assert_fetched(outcome, made, item)
        assert "too little comes" in outcome.messages


@pytest.mark.parametrize("makes", ["a directory", "a file", "a symlink"])
def test_what_comes_to_the_destination_meanwhile_is_left_alone(
    makes: str, made: Made, tmp_path: Path
) -> None:
    item, other = tmp_path / "item", tmp_path / "other"

    def script(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        match makes:
            case "a directory":
                item.mkdir()
            case "a file":
                item.touch()
            case _:
                item.symlink_to(other)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + made.nar)

    with running_server() as server, scripted_server(script) as url:
        publish(server, made, NarUrl(f"{url}/nar", "none", None, None))
        outcome = substitute(made, item, server.url)
    assert outcome.reply == NOT_FOUND
    assert "File exists" in outcome.messages
    assert os.listdir(tmp_path) == ["item"]
    assert item.is_symlink() or not item.is_dir() or os.listdir(item) == []


def test_what_is_at_the_destination_already_is_left_alone(made: Made, tmp_path: Path) -> None:
    (tmp_path / "item").write_text("mine")
    with running_server() as server:
        publish(server, made)
        outcome = substitute(made, tmp_path / "item", server.url)
    assert outcome.reply == NOT_FOUND
    assert (tmp_path / "item").read_text() == "mine"


def test_a_directory_instead_of_a_server(made: Made, tmp_path: Path) -> None:
    site = tmp_path / "site"
    (site / "nar").mkdir(parents=True)
    (site / f"{made.item.hash_part}.narinfo").write_bytes(narinfo_of(made, [plain_url(made)]))
    (site / "nar" / made.item.base_name).write_bytes(made.nar)
    outcome = substitute(made, tmp_path / "item", f"file://{site}")
    assert_fetched(outcome, made, tmp_path / "item")
    # Root reads this directory: nothing but regular files is so much as opened.
    (site / "nar" / made.item.base_name).unlink()
    os.mkfifo(site / "nar" / made.item.base_name)
    outcome = substitute(made, tmp_path / "other", f"file://{site}")
    assert_nothing(outcome, tmp_path / "other")


def test_plain_messages(made: Made, tmp_path: Path) -> None:
    with running_server() as server:
        publish(server, made)
        outcome = substitute(made, tmp_path / "item", server.url, extended=False)
        assert_fetched(outcome, made, tmp_path / "item")
        assert f"Downloading {server.url}/nar/{made.item.base_name}...\n" in outcome.messages
        assert "@" not in outcome.messages


# --- out of blocks ----------------------------------------------------------------------------


def put_tree(root: Path) -> tuple[MemoryStore, str]:
    store = MemoryStore()
    return store, asyncio.run(eris_fs.put_tree(store, root)).to_urn()


class Faulty:
    """A store with a fault from some block on."""

    def __init__(self, store: MemoryStore, after: int, fault: str) -> None:
        self._store = store
        self._left = after
        self._fault = fault
        self._lock = asyncio.Lock()
        self._dripped = 0

    def get(self, reference: Reference, block_size: BlockSize) -> Awaitable[bytes]:
        return self._get(reference, block_size)

    async def _get(self, reference: Reference, block_size: BlockSize) -> bytes:
        self._left -= 1
        if self._left >= 0:
            return await self._store.get(reference, block_size)
        match self._fault:
            case "missing":
                raise BlockNotFound(reference)
            case "corrupt":
                return bytes(block_size)
            case "unavailable":
                raise StoreUnavailable("gone")
            case "broken":
                raise RuntimeError("a programming error in the store")
            case "drips":
                async with self._lock:
                    _clock().skip(1.0)
                    await asyncio.sleep(0.5)
                self._dripped += 1
                if self._dripped > 80:
                    raise BlockNotFound(reference)
                return await self._store.get(reference, block_size)
            case _:
                _clock().skip(DEFAULT_SETTINGS.eris_stall_s)
                await asyncio.get_running_loop().create_future()
                raise AssertionError


def _clock() -> Clock:
    clock = asyncio.get_running_loop()
    assert isinstance(clock, Clock)
    return clock


def test_an_item_out_of_blocks(made: Made, tmp_path: Path) -> None:
    store, urn = put_tree(made.root)
    with running_server() as server:
        publish(server, made, urn=urn)
        outcome = substitute(made, tmp_path / "item", server.url, store=store)
        assert_fetched(outcome, made, tmp_path / "item")
        assert not nars_asked(server)
    size, shown = made.item.nar_size, f"{urn[:21]}..."
    lines = traces(outcome)
    assert lines[0] == f"@ download-started {tmp_path}/item {shown} {size}"
    assert lines[-2] == f"@ download-progress {tmp_path}/item {shown} {size} {size}"
    assert lines[-1] == f"@ download-succeeded {tmp_path}/item {shown} {size}"
    # Whoever reads the log cannot read the item.
    assert urn[:30] not in outcome.messages


@pytest.mark.parametrize("extended", [True, False])
def test_of_blocks_that_came_from_elsewhere_that_is_told(
    made: Made, tmp_path: Path, extended: bool
) -> None:
    store, urn = put_tree(made.root)

    async def ask() -> dict[str, int]:
        return {"here": 1 << 20, "desk\x1btop": 3 << 20}

    with running_server() as server:
        publish(server, made, urn=urn)
        outcome = substitute(
            made,
            tmp_path / "item",
            server.url,
            store=store,
            places=Places(ask, "here"),
            extended=extended,
        )
    assert_fetched(outcome, made, tmp_path / "item")
    # What a peer is called is no command to a terminal.
    told = "item: 3.0 MiB from desk\\x1btop, 1.0 MiB from here"
    assert told in outcome.messages.split("\n")


def test_an_item_out_of_a_packed_tree(made: Made, tmp_path: Path) -> None:
    store = MemoryStore()
    urn = asyncio.run(eris_fs.put_packed_tree(store, made.root)).to_urn()
    with running_server() as server:
        publish(server, made, urn=urn)
        outcome = substitute(made, tmp_path / "item", server.url, store=store)
        assert_fetched(outcome, made, tmp_path / "item")
        assert not nars_asked(server)


@pytest.mark.parametrize("kind", ["file", "executable", "symlink", "empty directory", "empty file"])
def test_items_that_are_no_directories_of_files(kind: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    match kind:
        case "symlink":
            root.symlink_to("/nowhere")
        case "empty directory":
            root.mkdir()
        case _:
            root.write_bytes(b"" if kind == "empty file" else b"x" * 3_000_000)
            root.chmod(0o755 if kind == "executable" else 0o644)
    made = make_item(root)
    store, urn = put_tree(root)
    with running_server() as server:
        publish(server, made, urn=urn)
        del server.files[f"/nar/{made.item.base_name}"]
        outcome = substitute(made, tmp_path / "item", server.url, store=store)
        assert_fetched(outcome, made, tmp_path / "item")


@pytest.mark.parametrize("fault", ["missing", "corrupt", "unavailable", "broken", "stalls"])
@pytest.mark.parametrize("after", [0, 1, 3])
def test_whatever_fails_there_are_the_nars(
    fault: str, after: int, made: Made, tmp_path: Path
) -> None:
    store, urn = put_tree(made.root)
    with running_server() as server:
        publish(server, made, urn=urn)
        faulty = Faulty(store, after, fault)
        outcome = substitute(made, tmp_path / "item", server.url, store=faulty)
        assert_fetched(outcome, made, tmp_path / "item")
        assert "failed: " in outcome.messages
        assert len(nars_asked(server)) == 1


def test_a_store_that_drips(tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", big=3_000_000)
    made = make_item(tmp_path / "tree")
    store, urn = put_tree(made.root)
    impatient = FetchSettings(min_rate=10_000_000)
    with running_server() as server:
        publish(server, made, urn=urn)
        faulty = Faulty(store, 0, "drips")
        destination = tmp_path / "item"
        outcome = substitute(made, destination, server.url, store=faulty, settings=impatient)
        assert_fetched(outcome, made, destination)
        assert "too little comes" in outcome.messages


def test_a_urn_that_nobody_can_read(made: Made, tmp_path: Path) -> None:
    with running_server() as server:
        publish(server, made, urn="urn:eris:NONSENSE")
        outcome = substitute(made, tmp_path / "item", server.url, store=MemoryStore())
        assert_fetched(outcome, made, tmp_path / "item")
        assert f"the narinfo of {server.url}: ERIS: this is no URN" in outcome.messages


def test_a_directory_says_nothing_of_a_store_that_is_away(made: Made, tmp_path: Path) -> None:
    store, urn = put_tree(made.root)
    site = tmp_path / "site"
    (site / "nar").mkdir(parents=True)
    text = narinfo_of(made, [plain_url(made)], urn=urn)
    (site / f"{made.item.hash_part}.narinfo").write_bytes(text)
    (site / "nar" / made.item.base_name).write_bytes(made.nar)
    written = bytearray()

    async def run(clock: Clock) -> None:
        messages = Messages(written.extend)
        lookup = Lookup([parse_server(f"file://{site}")], messages)
        fetcher = Fetcher(Faulty(store, 0, "unavailable"), messages)
        policy = Policy("/gnu/store", ACL, eris=True, settings=DEFAULT_SETTINGS)
        session = SubstituteSession(policy, lookup, messages, fetcher, deduplicate=False)
        try:
            for name in ("one", "two", "three"):
                command = Substitute(made.item.path, str(tmp_path / name))
                assert await session.answer(command) == success(made)
        finally:
            lookup.close()
            await fetcher.close()

    run_on_clock(run)
    # Asked once: it is away for the other two.
    assert written.decode().count("failed: ") == 1


def test_a_frozen_server_is_asked_last_for_the_next_item(made: Made, tmp_path: Path) -> None:
    asked = []

    def script(connection: socket.socket) -> None:
        asked.append(connection.recv(1 << 16))
        clock = clocks.get()
        clock.settle()
        clock.skip(DEFAULT_SETTINGS.nar_stall_s)
        connection.recv(1 << 16)

    clocks = SimpleQueue[Clock]()
    with running_server() as server, running_server() as good, scripted_server(script) as url:
        publish(server, made, NarUrl(f"{url}/nar", "none", None, None))
        publish(good, made)

        async def run(clock: Clock) -> None:
            clocks.put(clock)
            messages = Messages(lambda _: None)
            lookup = Lookup([parse_server(server.url), parse_server(good.url)], messages)
            fetcher = Fetcher(None, messages)
            policy = Policy("/gnu/store", ACL, eris=False, settings=DEFAULT_SETTINGS)
            session = SubstituteSession(policy, lookup, messages, fetcher, deduplicate=False)
            try:
                for name in ("one", "two", "three"):
                    command = Substitute(made.item.path, str(tmp_path / name))
                    assert await session.answer(command) == success(made)
            finally:
                lookup.close()
                await fetcher.close()

        run_on_clock(run)
    assert len(asked) == 1


def test_blocks_that_are_no_tree(made: Made, tmp_path: Path) -> None:
    store = MemoryStore()
    urn = asyncio.run(put_content(store, b"no tree" * 1000)).to_urn()
    with running_server() as server:
        publish(server, made, urn=urn)
        outcome = substitute(made, tmp_path / "item", server.url, store=store)
        assert_fetched(outcome, made, tmp_path / "item")


def lying_tree(tmp_path: Path, big: int) -> tuple[MemoryStore, str]:
    make_tree(tmp_path / "lie", big=big)
    (tmp_path / "lie/one").write_bytes(b"z")
    return put_tree(tmp_path / "lie")


@pytest.mark.parametrize("big", [100_000, 100_001, 20_000_000])
def test_a_hint_that_lies_is_found_out(big: int, made: Made, tmp_path: Path) -> None:
    store, urn = lying_tree(tmp_path, big)
    with running_server() as server:
        publish(server, made, hint=urn)
        trusting = replace(DEFAULT_SETTINGS, trust_hints=True)
        outcome = substitute(made, tmp_path / "item", server.url, store=store, settings=trusting)
        assert_fetched(outcome, made, tmp_path / "item")
        assert "failed: " in outcome.messages


def test_a_hint_that_tells_the_truth(made: Made, tmp_path: Path) -> None:
    store, urn = put_tree(made.root)
    with running_server() as server:
        publish(server, made, hint=urn)
        trusting = replace(DEFAULT_SETTINGS, trust_hints=True)
        outcome = substitute(made, tmp_path / "item", server.url, store=store, settings=trusting)
        assert_fetched(outcome, made, tmp_path / "item")
        assert not nars_asked(server)


def test_hints_are_not_looked_at_unless_wanted(made: Made, tmp_path: Path) -> None:
    store, urn = put_tree(made.root)
    with running_server() as server:
        publish(server, made, hint=urn)
        outcome = substitute(made, tmp_path / "item", server.url, store=store)
        assert_fetched(outcome, made, tmp_path / "item")
        assert nars_asked(server)
        assert "urn:eris" not in outcome.messages


def test_a_signed_urn_wins_over_hints(made: Made, tmp_path: Path) -> None:
    store, urn = put_tree(made.root)
    _, lie = lying_tree(tmp_path, 10)
    with running_server() as liar, running_server() as server:
        publish(liar, made)
        liar.files[f"/{made.item.hash_part}.narinfo"] = narinfo_of(
            made, [plain_url(made)], urn=lie, key=None
        )
        publish(server, made, urn=urn)
        trusting = replace(DEFAULT_SETTINGS, trust_hints=True)
        outcome = substitute(
            made, tmp_path / "item", liar.url, server.url, store=store, settings=trusting
        )
        assert_fetched(outcome, made, tmp_path / "item")
        assert "failed" not in outcome.messages


def test_the_wrong_tree_and_no_nar(made: Made, tmp_path: Path) -> None:
    store, urn = lying_tree(tmp_path, 100_000)
    with running_server() as server:
        publish(server, made, urn=urn)
        del server.files[f"/nar/{made.item.base_name}"]
        outcome = substitute(made, tmp_path / "item", server.url, store=store)
        lie = make_item(tmp_path / "lie")
        assert_nothing(outcome, tmp_path / "item", make_wrong(made, lie.nar))


def test_wrong_bytes_that_nobody_who_is_authorized_named(made: Made, tmp_path: Path) -> None:
    """The user would be told that a server which is trusted sent them."""
    store, urn = lying_tree(tmp_path, 100_000)
    with running_server() as server, running_server() as mirror:
        publish(server, made, hint=urn)
        del server.files[f"/nar/{made.item.base_name}"]
        trusting = replace(DEFAULT_SETTINGS, trust_hints=True)
        outcome = substitute(made, tmp_path / "item", server.url, store=store, settings=trusting)
        assert_nothing(outcome, tmp_path / "item", NOT_FOUND)
        lie = make_item(tmp_path / "lie")
        shown = [format_hash(one.item.nar_hash)[7:] for one in (lie, made)]
        assert f"the hash of what came is {shown[0]} and should be {shown[1]}" in outcome.messages

        publish(mirror, made)
        mirror.files[f"/{made.item.hash_part}.narinfo"] = narinfo_of(
            made, [plain_url(made)], key=None
        )
        mirror.files[f"/nar/{made.item.base_name}"] = lie.nar
        outcome = substitute(made, tmp_path / "item", mirror.url, server.url)
        assert_nothing(outcome, tmp_path / "item", NOT_FOUND)
        assert shown[0] in outcome.messages


# --- deduplication ----------------------------------------------------------------------------


@pytest.mark.parametrize("blocks", [True, False])
def test_deduplication_below_the_store(blocks: bool, made: Made, tmp_path: Path) -> None:
    store_dir = tmp_path / "store"
    (store_dir / ".links").mkdir(parents=True)
    here = replace(made, item=replace(made.item, path=f"{store_dir}/{made.item.base_name}"))
    store, urn = put_tree(made.root)
    with running_server() as server:
        publish(server, here, urn=urn if blocks else None)
        outcome = substitute(
            here,
            Path(here.item.path),
            server.url,
            store=store,
            store_dir=str(store_dir),
            deduplicate=True,
        )
        assert_fetched(outcome, here, Path(here.item.path))
    item = Path(here.item.path)
    assert (item / "twin-a").samefile(item / "twin-b")
    assert not (item / "small-twin-a").samefile(item / "small-twin-b")
    assert {link.stat().st_ino for link in (store_dir / ".links").iterdir()} == {
        (item / name).stat().st_ino for name in ("twin-a", "big")
    }


@pytest.mark.parametrize("blocks", [True, False])
def test_a_source_that_lies_leaves_nothing_among_the_links(
    blocks: bool, made: Made, tmp_path: Path
) -> None:
    store_dir = tmp_path / "store"
    (store_dir / ".links").mkdir(parents=True)
    here = replace(made, item=replace(made.item, path=f"{store_dir}/{made.item.base_name}"))
    make_tree(tmp_path / "lie")
    (tmp_path / "lie/twin-a").write_bytes(b"u" * 8192)
    lie = make_item(tmp_path / "lie")
    store, urn = put_tree(lie.root)
    with running_server() as server:
        publish(server, here, urn=urn if blocks else None)
        server.files[f"/nar/{made.item.base_name}"] = lie.nar
        outcome = substitute(
            here,
            Path(here.item.path),
            server.url,
            store=store,
            store_dir=str(store_dir),
            deduplicate=True,
        )
        assert_nothing(outcome, Path(here.item.path), make_wrong(made, lie.nar))
    assert os.listdir(store_dir) == [".links"]
    assert os.listdir(store_dir / ".links") == []


def test_a_server_that_is_not_there_is_not_tried_again(made: Made, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        gone = f"http://127.0.0.1:{listening.getsockname()[1]}"
    with running_server() as server:
        urls = [NarUrl(f"{gone}/{method}", method, None, None) for method in ("none", "gzip")]
        publish(server, made, *urls)
        outcome = substitute(made, tmp_path / "item", server.url)
        assert_nothing(outcome, tmp_path / "item")
        # Both nars are with one host.
        assert outcome.messages.count("' failed: connection failed: Connection refused\n") == 1
        assert "trying again" not in outcome.messages
