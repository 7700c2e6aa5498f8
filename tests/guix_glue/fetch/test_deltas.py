"""Items out of deltas and of other items that are here; in this process, over real sockets."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from eris.capability import ReadCapability
from eris.errors import BlockNotFound, StoreUnavailable
from eris.model import BlockSize, Reference
from eris.store import BlockReader, MemoryStore
from eris.transfer import put_content
from eris_fs.delta.directory import DirectoryFiles
from eris_fs.delta.encode import put_delta
from guix_glue.fetch.places import Places
from guix_glue.fetch.settings import DEFAULT_SETTINGS
from guix_glue.formats.compression import compressor, parse_choice
from guix_glue.formats.narinfo import DeltaLine, NarUrl
from tests.clocks import Clock
from tests.eris_fs.delta.raw import Patch, Tree, compress, make
from tests.guix_glue.fetch.bringing import NOTHING, Brought
from tests.guix_glue.fetch.fakes import FakeServer, running_server
from tests.guix_glue.fetch.support import make_item
from tests.guix_glue.fetch.upgrades import NEW, OLD, Upgrade, bring_upgrade, make_upgrade
from tests.guix_glue.local.databases import connect, make_database

TRUSTING = replace(DEFAULT_SETTINGS, trust_hints=True)
FAR = DeltaLine(f"{'2' * 32}-app-1.2.1", "urn:eris:ABC")
"""From an item that is not here."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Upgrade:
    return make_upgrade(tmp_path_factory.mktemp("upgrade"))


@pytest.fixture
def upgrade(made: Upgrade, tmp_path: Path) -> Upgrade:
    """One of which the old item may be altered."""
    store_dir = tmp_path / "store"
    shutil.copytree(made.store_dir, store_dir, symlinks=True)
    item = replace(made.new.item, path=f"{store_dir}/{made.new.item.base_name}")
    new = replace(made.new, item=item)
    return replace(made, store_dir=store_dir, old=store_dir / made.old.name, new=new)


@pytest.fixture(scope="module")
def shared_server() -> Iterator[FakeServer]:
    with running_server() as one:
        yield one


@pytest.fixture
def server(shared_server: FakeServer) -> FakeServer:
    shared_server.files.clear()
    shared_server.requests.clear()
    return shared_server


def nars_asked(server: FakeServer) -> list[str]:
    return [path for path in server.requests if path.startswith("/nar")]


def assert_by(outcome: Brought, *urns: str) -> None:
    """These were tried, in this order, and shown by no more than their beginning."""
    lines = [line.split(" ") for line in outcome.messages.split("\n")]
    tried = [line[3] for line in lines if line[:2] == ["@", "download-started"]]
    assert [one for one in tried if one.startswith("urn:")] == [f"{urn[:21]}..." for urn in urns]
    assert not any(urn[:30] in outcome.messages for urn in urns)


class Faulty:
    """A store in which something happens when a block is asked for, the first one being 1."""

    def __init__(self, store: BlockReader, happens: Callable[[int, Reference], None]) -> None:
        self._store = store
        self._happens = happens
        self._asked = 0

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        self._asked += 1
        self._happens(self._asked, reference)
        return await self._store.get(reference, block_size)


# --- the right item -----------------------------------------------------------------------------


def test_every_way_leads_to_the_same_item(
    upgrade: Upgrade, server: FakeServer, tmp_path: Path
) -> None:
    packing = compressor(parse_choice("zstd"))
    packed_nar = packing.feed(upgrade.new.nar) + packing.finish()
    nar = NarUrl("nar/zstd", "zstd", None, None)
    ways = {
        "delta": ([upgrade.line], upgrade.packed),
        "packed": ([], upgrade.packed),
        "standard": ([], upgrade.standard),
        "nar": ([], None),
    }
    for name, (deltas, urn) in ways.items():
        upgrade.publish(server, deltas, urn=urn, urls=[nar])
        server.files["/nar/zstd"] = packed_nar
        outcome = bring_upgrade(upgrade, tmp_path / name, server.url)
        outcome.assert_right(upgrade.new, tmp_path / name)
        assert "failed" not in outcome.messages
        assert bool(nars_asked(server)) == (name == "nar")
        assert_by(outcome, *([upgrade.delta] if deltas else [urn] if urn else []))


@pytest.mark.parametrize("extended", [True, False])
def test_what_is_told_is_what_was_moved(
    upgrade: Upgrade, server: FakeServer, tmp_path: Path, extended: bool
) -> None:
    moved = 0

    def count(_: int, reference: Reference) -> None:
        nonlocal moved
        moved += len(upgrade.blocks._blocks[reference])

    async def ask() -> dict[str, int]:
        return {"here": 1 << 20, "desktop": 3 << 20}

    upgrade.publish(server, [upgrade.line], urn=upgrade.packed)
    outcome = bring_upgrade(
        upgrade,
        tmp_path / "item",
        server.url,
        store=Faulty(upgrade.blocks, count),
        places=Places(ask, "here"),
        extended=extended,
    )
    outcome.assert_right(upgrade.new, tmp_path / "item")
    lines = outcome.messages.split("\n")
    assert f"item: by a delta of {moved} bytes against {upgrade.old.name}" in lines
    assert "item: 3.0 MiB from desktop, 1.0 MiB from here" in lines
    assert 0 < moved < upgrade.new.item.nar_size // 7
    if extended:
        what = f"{tmp_path}/item {upgrade.delta[:21]}..."
        traces = [line for line in lines if line.startswith("@ ")]
        assert traces[0] == f"@ download-started {what} -"
        assert traces[-2] == f"@ download-progress {what} {moved} {moved}"
        assert traces[-1] == f"@ download-succeeded {what} {moved}"


def test_the_first_delta_of_a_base_that_is_here(
    upgrade: Upgrade, server: FakeServer, tmp_path: Path
) -> None:
    lie = DeltaLine(upgrade.old.name, upgrade.packed)
    upgrade.publish(server, [FAR, upgrade.line, lie], urn=upgrade.packed)
    outcome = bring_upgrade(upgrade, tmp_path / "item", server.url)
    outcome.assert_right(upgrade.new, tmp_path / "item")
    assert "failed" not in outcome.messages
    assert_by(outcome, upgrade.delta)


@pytest.mark.parametrize("new_kind", ["file", "program", "directory", "symlink", "empty"])
@pytest.mark.parametrize("old_kind", ["file", "directory"])
def test_items_of_every_kind(
    old_kind: str, new_kind: str, made: Upgrade, server: FakeServer, tmp_path: Path
) -> None:
    """By deltas of the encoder, between trees of which each may be one file."""
    content = hashlib.shake_128(b"item").digest(100_000)
    store_dir, blocks = tmp_path / "store", MemoryStore()
    store_dir.mkdir()
    old, root = store_dir / made.old.name, tmp_path / "new"
    if old_kind == "directory":
        old.mkdir()
        (old / "file").write_bytes(content)
    else:
        old.write_bytes(content)
    match new_kind:
        case "directory":
            root.mkdir()
            (root / "file").write_bytes(content + b"more")
        case "symlink":
            root.symlink_to("nowhere")
        case _:
            root.write_bytes(b"" if new_kind == "empty" else content[:50_000])
            root.chmod(0o755 if new_kind == "program" else 0o644)

    async def put() -> str:
        with DirectoryFiles(old) as base, DirectoryFiles(root) as new:
            return (await put_delta(blocks, base, new)).capability.to_urn()

    urn = asyncio.run(put())
    new = make_item(root)
    new = replace(new, item=replace(new.item, path=f"{store_dir}/{made.new.item.base_name}"))
    upgrade = Upgrade(store_dir, old, new, blocks, urn, "", "")
    upgrade.publish(server, [upgrade.line])
    outcome = bring_upgrade(upgrade, tmp_path / "item", server.url)
    outcome.assert_right(new, tmp_path / "item")
    assert "failed" not in outcome.messages
    assert_by(outcome, urn)


@pytest.mark.parametrize(
    "kind", ["file", "program", "directory that was a file", "symlink", "pipe"]
)
def test_a_base_of_another_kind_than_the_delta_says(
    kind: str, server: FakeServer, tmp_path: Path
) -> None:
    upgrade = make_upgrade(tmp_path)
    if kind == "directory that was a file":
        shutil.rmtree(upgrade.old)
        upgrade.old.write_bytes(b"x")
    elif kind == "pipe":
        os.mkfifo(upgrade.old / "pipe")
    elif kind == "symlink":
        upgrade.old.rename(tmp_path / "elsewhere")
        upgrade.old.symlink_to(tmp_path / "elsewhere")
    else:
        upgrade.old.joinpath("bin/app").chmod(0o644 if kind == "file" else 0o755)
    upgrade.publish(server, [upgrade.line], urn=upgrade.packed)
    outcome = bring_upgrade(upgrade, tmp_path / "item", server.url)
    outcome.assert_right(upgrade.new, tmp_path / "item")
    assert ("failed" in outcome.messages) == (kind != "program")
    assert ("/pipe is no base of a delta: it is a named pipe" in outcome.messages) == (
        kind == "pipe"
    )
    assert "encode" not in outcome.messages


def test_files_are_shared_with_those_that_are_here(upgrade: Upgrade, server: FakeServer) -> None:
    upgrade.publish(server, [upgrade.line])
    (upgrade.store_dir / ".links").mkdir()
    destination = upgrade.store_dir / upgrade.new.item.base_name
    outcome = bring_upgrade(upgrade, destination, server.url, deduplicate=True)
    outcome.assert_right(upgrade.new, destination)
    links = os.listdir(upgrade.store_dir / ".links")
    assert len(links) == 3
    assert (destination / "lib/moved").stat().st_nlink == 2


# --- a base that is of no use --------------------------------------------------------------------


def test_without_a_base_here_nothing_is_said_of_deltas(
    upgrade: Upgrade, server: FakeServer, tmp_path: Path
) -> None:
    upgrade.publish(server, [FAR], urn=upgrade.packed)
    outcome = bring_upgrade(upgrade, tmp_path / "item", server.url)
    outcome.assert_right(upgrade.new, tmp_path / "item")
    assert_by(outcome, upgrade.packed)
    assert "failed" not in outcome.messages
    assert "delta" not in outcome.messages


def test_the_database_tells_which_items_are_valid(
    upgrade: Upgrade, server: FakeServer, tmp_path: Path
) -> None:
    upgrade.publish(server, [upgrade.line], urn=upgrade.packed)
    database_dir = upgrade.store_dir.parent / "db"
    database_dir.mkdir()
    make_database(database_dir)

    def bring(name: str) -> Brought:
        outcome = bring_upgrade(upgrade, tmp_path / name, server.url)
        outcome.assert_right(upgrade.new, tmp_path / name)
        return outcome

    assert_by(bring("not valid"), upgrade.packed)
    row = (999, str(upgrade.old), f"sha256:{'0b' * 32}", 1, None, 200)
    with closing(connect(database_dir)) as database:
        database.execute("INSERT INTO ValidPaths VALUES (?, ?, ?, ?, ?, ?)", row)
        database.commit()
        assert_by(bring("valid"), upgrade.delta)


def altered(upgrade: Upgrade) -> None:
    """Other bytes in a file that the new item has too, and as many."""
    file = upgrade.old / "share/data"
    content = file.read_bytes()
    file.write_bytes(content[:1000] + b"altered" + content[1007:])


def test_a_base_that_was_altered_does_no_harm(
    upgrade: Upgrade, server: FakeServer, tmp_path: Path
) -> None:
    altered(upgrade)
    upgrade.publish(server, [upgrade.line], urn=upgrade.packed)
    outcome = bring_upgrade(upgrade, tmp_path / "item", server.url)
    outcome.assert_right(upgrade.new, tmp_path / "item")
    assert_by(outcome, upgrade.delta, upgrade.packed)
    assert f"or {upgrade.old.name} was altered" in outcome.messages


def test_a_base_that_was_altered_is_no_hash_mismatch(
    upgrade: Upgrade, server: FakeServer, tmp_path: Path
) -> None:
    """The daemon would tell that a server which is trusted sent wrong bytes."""
    altered(upgrade)
    upgrade.publish(server, [upgrade.line])
    del server.files[f"/nar/{upgrade.new.item.base_name}"]
    outcome = bring_upgrade(upgrade, tmp_path / "item", server.url)
    assert outcome.reply == NOTHING
    assert not os.path.lexists(tmp_path / "item")


@pytest.mark.parametrize("what", ["file", "all", "shorter", "symlink", "pipe"])
def test_a_base_that_changes_meanwhile_does_no_harm(
    what: str, upgrade: Upgrade, server: FakeServer, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes((upgrade.old / "share/data").read_bytes())

    def change(number: int, _: Reference) -> None:
        if number != 2:
            return
        file = upgrade.old / "share/data"
        if what == "all":
            shutil.rmtree(upgrade.old)
        elif what == "shorter":
            os.truncate(file, 1000)
        else:
            file.unlink()
        if what == "symlink":
            # As many bytes, and the right ones, but not of this item.
            file.symlink_to(secret)
        elif what == "pipe":
            os.mkfifo(file)

    upgrade.publish(server, [upgrade.line], urn=upgrade.packed)
    store = Faulty(upgrade.blocks, change)
    outcome = bring_upgrade(upgrade, tmp_path / "item", server.url, store=store)
    outcome.assert_right(upgrade.new, tmp_path / "item")
    assert_by(outcome, upgrade.delta, upgrade.packed)


# --- a delta that is of no use -------------------------------------------------------------------


def test_a_delta_to_another_tree_is_found_out(
    upgrade: Upgrade, server: FakeServer, tmp_path: Path
) -> None:
    lies = [
        upgrade.put(OLD, {**NEW, "share/new": b"lie" * 1000}),
        upgrade.put(OLD, {**NEW, "more": b""}),
        upgrade.put(OLD, {}),
        # Far more than there may be.
        upgrade.put(OLD, {**NEW, **{f"{n}": bytes(1 << 20) for n in range(8)}}),
        upgrade.put(OLD, {f"{n}": None for n in range(9000)}),
        upgrade.put({**OLD, "more": b""}, NEW),
        DeltaLine(upgrade.old.name, upgrade.packed),
    ]
    for number, lie in enumerate(lies):
        upgrade.publish(server, [lie], urn=upgrade.packed)
        destination = tmp_path / str(number)
        outcome = bring_upgrade(upgrade, destination, server.url)
        outcome.assert_right(upgrade.new, destination)
        assert_by(outcome, lie.urn, upgrade.packed)
        # One that lies alone brings nothing, and nobody else is blamed.
        upgrade.publish(server, [lie], urls=[])
        outcome = bring_upgrade(upgrade, tmp_path / "none", server.url)
        assert outcome.reply == NOTHING
        assert not os.path.lexists(tmp_path / "none")


@pytest.mark.parametrize("first", [1, 2, 5])
def test_blocks_that_are_missing(
    first: int, upgrade: Upgrade, server: FakeServer, tmp_path: Path
) -> None:
    whole, _ = ReadCapability.from_urn(upgrade.packed).root
    asked = set[Reference]()

    def lack(number: int, reference: Reference) -> None:
        asked.add(reference)
        if number >= first and whole not in asked:
            raise BlockNotFound(reference)

    upgrade.publish(server, [upgrade.line], urn=upgrade.packed)
    store = Faulty(upgrade.blocks, lack)
    outcome = bring_upgrade(upgrade, tmp_path / "item", server.url, store=store)
    outcome.assert_right(upgrade.new, tmp_path / "item")
    assert_by(outcome, upgrade.delta, upgrade.packed)


def test_a_store_that_is_away_is_asked_once(
    upgrade: Upgrade, server: FakeServer, tmp_path: Path
) -> None:
    def away(_: int, __: Reference) -> None:
        raise StoreUnavailable("the store is away")

    upgrade.publish(server, [upgrade.line], urn=upgrade.packed)
    store = Faulty(upgrade.blocks, away)
    outcome = bring_upgrade(upgrade, tmp_path / "item", server.url, store=store)
    outcome.assert_right(upgrade.new, tmp_path / "item")
    assert_by(outcome, upgrade.delta)
    assert nars_asked(server)


class Stalling:
    """A store that never answers for more than some blocks."""

    def __init__(self, store: BlockReader, answers: int) -> None:
        self._store = store
        self._answers = answers

    async def get(self, reference: Reference, block_size: BlockSize) -> bytes:
        if not self._answers:
            clock = asyncio.get_running_loop()
            assert isinstance(clock, Clock)
            clock.skip(DEFAULT_SETTINGS.eris_stall_s)
            await clock.create_future()
        self._answers -= 1
        return await self._store.get(reference, block_size)


@pytest.mark.parametrize("answers", [0, 1, 3])
def test_a_store_that_stalls_is_left_alone(
    answers: int, upgrade: Upgrade, server: FakeServer, tmp_path: Path
) -> None:
    upgrade.publish(server, [upgrade.line], urn=upgrade.packed)
    store = Stalling(upgrade.blocks, answers)
    outcome = bring_upgrade(upgrade, tmp_path / "item", server.url, store=store)
    outcome.assert_right(upgrade.new, tmp_path / "item")
    assert_by(outcome, upgrade.delta)
    assert "nothing comes any more" in outcome.messages
    assert nars_asked(server)


def test_a_delta_that_would_have_its_base_read_again_and_again(
    server: FakeServer, tmp_path: Path
) -> None:
    """What may be read follows from the nar, however large the base is."""
    room = 64 << 20
    base: Tree = {"large": bytes(room // 2)}
    parts = [f"{number} small".encode() * 20 for number in range(3)]
    new: Tree = {str(number): part for number, part in enumerate(parts)}
    upgrade = make_upgrade(tmp_path, base, new)
    hostile = make(base, new)
    twice = ((0, 0, room // 2),) * 2
    hostile.patches = [Patch(part, twice, compress(part, bytes(room))) for part in parts]
    urn = asyncio.run(put_content(upgrade.blocks, hostile.to_bytes())).to_urn()
    upgrade.publish(server, [DeltaLine(upgrade.old.name, urn)], urn=upgrade.packed)
    outcome = bring_upgrade(upgrade, tmp_path / "item", server.url)
    outcome.assert_right(upgrade.new, tmp_path / "item")
    assert_by(outcome, urn, upgrade.packed)
    assert "the delta reads far more of its base" in outcome.messages


# --- hints ---------------------------------------------------------------------------------------


def test_hints_are_not_looked_at_unless_wanted(
    upgrade: Upgrade, server: FakeServer, tmp_path: Path
) -> None:
    upgrade.publish(server, hints=[upgrade.line], urn=upgrade.packed)
    outcome = bring_upgrade(upgrade, tmp_path / "not wanted", server.url)
    outcome.assert_right(upgrade.new, tmp_path / "not wanted")
    assert_by(outcome, upgrade.packed)
    outcome = bring_upgrade(upgrade, tmp_path / "wanted", server.url, settings=TRUSTING)
    outcome.assert_right(upgrade.new, tmp_path / "wanted")
    assert_by(outcome, upgrade.delta)


def test_a_signed_delta_wins_over_hints(
    upgrade: Upgrade, server: FakeServer, tmp_path: Path
) -> None:
    lie = upgrade.put(OLD, {**NEW, "share/new": b"lie" * 1000})
    upgrade.publish(server, [upgrade.line], hints=[lie])
    outcome = bring_upgrade(upgrade, tmp_path / "item", server.url, settings=TRUSTING)
    outcome.assert_right(upgrade.new, tmp_path / "item")
    assert_by(outcome, upgrade.delta)


def test_hints_of_other_servers(upgrade: Upgrade, server: FakeServer, tmp_path: Path) -> None:
    """A server that nobody signed for may name a delta, one each; none that was merely found."""
    lies = [upgrade.put(OLD, {**NEW, "share/new": b"lie" * n}) for n in range(3)]
    with running_server() as liar:
        # What is "signed" is not, as there is no signature.
        upgrade.publish(liar, [lies[0]], hints=lies[1:], key=None)
        upgrade.publish(server, hints=[FAR, upgrade.line], urn=upgrade.packed)
        outcome = bring_upgrade(
            upgrade, tmp_path / "named", liar.url, server.url, settings=TRUSTING
        )
        outcome.assert_right(upgrade.new, tmp_path / "named")
        # That of the narinfo which is believed comes first.
        assert_by(outcome, upgrade.delta)
        upgrade.publish(server, urn=upgrade.packed)
        outcome = bring_upgrade(upgrade, tmp_path / "lie", liar.url, server.url, settings=TRUSTING)
        outcome.assert_right(upgrade.new, tmp_path / "lie")
        assert_by(outcome, lies[0].urn, upgrade.packed)
        outcome = bring_upgrade(
            upgrade, tmp_path / "found", server.url, settings=TRUSTING, nearby=[liar.url]
        )
        outcome.assert_right(upgrade.new, tmp_path / "found")
        assert_by(outcome, upgrade.packed)


def test_servers_that_name_many_bases_hide_none(
    upgrade: Upgrade, server: FakeServer, tmp_path: Path
) -> None:
    path = f"/{upgrade.new.item.hash_part}.narinfo"
    upgrade.publish(server, [upgrade.line], urn=upgrade.packed)
    flooding = []
    for letter in "abcd":
        lines = [DeltaLine(f"{letter * 30}{n:02}-app", upgrade.delta) for n in range(16)]
        text = upgrade.narinfo(lines[:8], hints=lines[8:], urn=upgrade.packed)
        # No more what was signed.
        server.files[f"/{letter}{path}"] = text.replace(b"-app urn", b"-apx urn")
        flooding.append(f"{server.url}/{letter}")
    outcome = bring_upgrade(
        upgrade, tmp_path / "item", server.url, settings=TRUSTING, nearby=flooding
    )
    outcome.assert_right(upgrade.new, tmp_path / "item")
    assert_by(outcome, upgrade.delta)
