"""Directories whose entries count as items."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from guix_glue.errors import InvalidItems, UnsupportedItem
from guix_glue.formats.nar import Data, Directory, File, NarReader, Symlink
from guix_glue.formats.store_path import fixed_output_path
from guix_glue.local.archive import nar_hash
from guix_glue.local.item_directory import DirectoryItems
from guix_glue.local.item_table import parse_item_table
from guix_glue.model import StoreItem
from tests.guix_glue.samples import SAMPLES

STORE_DIR = "/gnu/store"
NOTES = "zyrlmc7z8fi7842vdcy9agbbd13v6zyp-notes.txt"
NAMED = "7xq3qwahlz7ci18sxrm0qhmzqmafag1f-app-1.2.3"
DERIVER = "9ph6fa9lwp06gwqg8vdx6avbfi0f8671-app-1.2.3.drv"


def run(directory: Path, test: Callable[[DirectoryItems], Awaitable[None]]) -> None:
    async def with_items() -> None:
        items = DirectoryItems(str(directory), STORE_DIR)
        try:
            await test(items)
        finally:
            await items.close()

    asyncio.run(with_items())


def path_of(directory: Path, entry: str) -> str:
    """Where an entry belongs that is not named as an item."""
    digest, _ = nar_hash(str(directory / entry))
    return fixed_output_path(STORE_DIR, entry, digest, recursive=True)


async def found(items: DirectoryItems, path: str) -> StoreItem:
    item = await items.find(path[len(STORE_DIR) + 1 :][:32])
    assert item is not None
    assert item.path == path
    return item


def table(directory: Path, text: str) -> None:
    (directory / "items.toml").write_text(text)


def unpack(nar: bytes, target: Path) -> None:
    """Lay out what a nar says; the bits that do not count are as they happen to be."""
    reader = NarReader()
    file: Path | None = None
    for event in reader.feed(nar):
        match event:
            case Directory(path):
                target.joinpath(*map(os.fsdecode, path)).mkdir()
            case File(path, _, executable):
                file = target.joinpath(*map(os.fsdecode, path))
                file.touch(0o755 if executable else 0o644)
            case Symlink(path, link):
                target.joinpath(*map(os.fsdecode, path)).symlink_to(os.fsdecode(link))
            case Data(content):
                assert file is not None
                with file.open("ab") as stream:
                    stream.write(content)
    reader.finish()


def test_the_path_that_guix_gives(tmp_path: Path) -> None:
    # Guix added this tree to its store by its content alone, so the path is a fact about that.
    name = "glqalygy586qaay75rzsmjcnj5xh46wp-demo-tree-1.0"
    packed = (SAMPLES / "nar" / f"{name}.nar.zst").read_bytes()
    nar = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    unpack(nar, tmp_path / "demo-tree-1.0")

    async def test(items: DirectoryItems) -> None:
        item = await found(items, f"{STORE_DIR}/{name}")
        assert item.nar_size == len(nar) == 128088
        assert item.nar_hash == hashlib.sha256(nar).digest()
        assert (item.references, item.deriver) == ((), None)
        assert items.location(item) == str(tmp_path / "demo-tree-1.0")

    run(tmp_path, test)


def test_an_entry_named_as_an_item(tmp_path: Path) -> None:
    (tmp_path / NAMED).mkdir()
    (tmp_path / NAMED / "file").write_text("content")

    async def test(items: DirectoryItems) -> None:
        item = await found(items, f"{STORE_DIR}/{NAMED}")
        assert (item.nar_hash, item.nar_size) == nar_hash(str(tmp_path / NAMED))
        assert items.location(item) == str(tmp_path / NAMED)
        assert await items.valid(f"{STORE_DIR}/{NAMED}")
        assert not await items.valid(f"{STORE_DIR}/{NAMED}-2")
        assert not await items.valid(f"/nix/store/{NAMED}")

    run(tmp_path, test)


def test_files_links_and_directories(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    (tmp_path / "empty").mkdir()
    (tmp_path / "dangling").symlink_to("/nowhere")

    async def test(items: DirectoryItems) -> None:
        for entry in ("file", "empty", "dangling"):
            await found(items, path_of(tmp_path, entry))

    run(tmp_path, test)


def test_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    table(tmp_path, "")

    async def test(items: DirectoryItems) -> None:
        for text in ("0" * 32, "", "file", "items.toml", "../" * 8 + "12345678"):
            assert await items.find(text) is None
        for path in ("", "/etc/passwd", f"{STORE_DIR}/{'0' * 32}-file", f"{STORE_DIR}/file"):
            assert not await items.valid(path)
        with pytest.raises(InvalidItems):
            items.location(StoreItem(f"{STORE_DIR}/{NAMED}", bytes(32), 120, ()))

    run(tmp_path, test)


def test_references_and_derivers(tmp_path: Path) -> None:
    for name in ("app", "lib", NAMED):
        (tmp_path / name).write_text(name)
    table(
        tmp_path,
        f"""
        [app]
        references = ["lib", "app", "{NAMED}", "{NOTES}", "lib"]
        deriver = "{DERIVER}"
        ["{NAMED}"]
        references = ["app"]
        """,
    )

    async def test(items: DirectoryItems) -> None:
        app, lib = path_of(tmp_path, "app"), path_of(tmp_path, "lib")
        item = await found(items, app)
        assert item.references == tuple(sorted([app[11:], lib[11:], NAMED, NOTES]))
        assert item.deriver == DERIVER
        assert (await found(items, lib)).references == ()
        assert (await found(items, f"{STORE_DIR}/{NAMED}")).references == (app[11:],)

    run(tmp_path, test)


def remarks(directory: Path, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What is said, line by line, of a directory that is opened and asked a few times."""

    async def test(items: DirectoryItems) -> None:
        for _ in range(3):
            assert await items.find("0" * 32) is None

    run(directory, test)
    return [record.getMessage().removeprefix(f"{directory}: ") for record in caplog.records]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("file = 1", "not a table"),
        ("[file]\nrefs = []", "unknown key 'refs'"),
        ("[file]\nreferences = 'file'", "not a list"),
        ("[file]\nreferences = [1]", "neither an entry nor a base name"),
        ("[file]\nreferences = ['other']", "neither an entry nor a base name"),
        (f"[file]\nreferences = ['{STORE_DIR}/{NAMED}']", "neither an entry nor a base name"),
        ("[file]\nderiver = 'x.drv'", "not the base name of a derivation"),
        (f"[file]\nderiver = '{NAMED}'", "not the base name of a derivation"),
        ("[file]\nderiver = 7", "not the base name of a derivation"),
        ("[file]\nreferences = [\n'good'\n", "its table cannot be read"),
        ("[file]\nreferences =", "its table cannot be read"),
        ("[file]\n[file]\nreferences = ['good']", "there are two tables of it"),
        ("[file]\nreferences = []\n[file]\n=", "its table cannot be read"),
    ],
)
def test_a_table_that_is_wrong_leaves_out_its_entry_alone(
    tmp_path: Path, text: str, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("content")
    (tmp_path / "good").write_text("more")
    table(tmp_path, f'{text}\n[good]\nderiver = "{DERIVER}"\n')
    said = remarks(tmp_path, caplog)
    assert [line for line in said if "['file']" in line and problem in line], said
    assert len(said) == len(set(said))

    async def test(items: DirectoryItems) -> None:
        # Published without its references it would be broken where it is installed.
        assert await items.find(path_of(tmp_path, "file")[11:43]) is None
        assert (await found(items, path_of(tmp_path, "good"))).deriver == DERIVER

    run(tmp_path, test)


def test_an_entry_that_is_left_out_can_still_be_referred_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    (tmp_path / NAMED).write_text("app")
    table(tmp_path, f'file = 1\n["{NAMED}"]\nreferences = ["file"]')

    async def test(items: DirectoryItems) -> None:
        item = await found(items, f"{STORE_DIR}/{NAMED}")
        assert item.references == (path_of(tmp_path, "file")[11:],)

    run(tmp_path, test)


@pytest.mark.parametrize("name", ["other", '"items.toml"', '""'])
def test_a_table_of_no_entry_hinders_none(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("content")
    table(tmp_path, f'[{name}]\nreferences = ["gone"]\n[file]\nderiver = "{DERIVER}"')
    (said,) = remarks(tmp_path, caplog)
    assert "there is no such entry" in said

    async def test(items: DirectoryItems) -> None:
        assert (await found(items, path_of(tmp_path, "file"))).deriver == DERIVER

    run(tmp_path, test)


def test_a_name_with_a_dot_and_no_quotes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("app-1.2", "lib"):
        (tmp_path / name).write_text(name)
    table(tmp_path, '[app-1.2]\nreferences = ["lib"]')
    (said,) = remarks(tmp_path, caplog)
    assert '["app-1.2"]' in said

    async def test(items: DirectoryItems) -> None:
        # Not without the reference that was meant.
        assert await items.find(path_of(tmp_path, "app-1.2")[11:43]) is None
        await found(items, path_of(tmp_path, "lib"))

    run(tmp_path, test)


@pytest.mark.parametrize("text", ["x", "[fi", "[[[\n[file\n", "x = " + "[" * 10**5])
def test_tables_of_which_nothing_can_be_understood(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("content")
    table(tmp_path, text)

    async def test(items: DirectoryItems) -> None:
        assert "what has no table of its own there is left out" in caplog.text
        part = path_of(tmp_path, "file")[11:43]
        assert await items.find(part) is None
        table(tmp_path, "")
        await found(items, path_of(tmp_path, "file"))

    run(tmp_path, test)


@pytest.mark.parametrize(
    "text",
    [
        b"<<<<<<< HEAD\n%s",
        b"%s\n[fi\nreferences = []\n",
        b"%s\n[[[",
        b"# caf\xe9\n%s",
        b"file = {references = []\n%s",
    ],
)
def test_a_line_that_may_be_about_any_entry(
    tmp_path: Path, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("file", "good", "more"):
        (tmp_path / name).write_text(name)
    good = f'[good]\nderiver = "{DERIVER}"\n'.encode()
    (tmp_path / "items.toml").write_bytes(text.replace(b"%s", good))

    async def test(items: DirectoryItems) -> None:
        assert (await found(items, path_of(tmp_path, "good"))).deriver == DERIVER
        # What that line wanted to say of these nobody knows.
        for name in ("file", "more"):
            assert await items.find(path_of(tmp_path, name)[11:43]) is None

    run(tmp_path, test)
    assert "what has no table of its own there is left out" in caplog.text


def test_a_table_that_becomes_doubtful(tmp_path: Path) -> None:
    for name in ("file", "more"):
        (tmp_path / name).write_text(name)
    table(tmp_path, f'[file]\nderiver = "{DERIVER}"')

    async def test(items: DirectoryItems) -> None:
        table(tmp_path, f'[more]\nderiver = "{DERIVER}"\n[fi')
        (tmp_path / "new").write_text("new")
        assert (await found(items, path_of(tmp_path, "file"))).deriver == DERIVER
        assert (await found(items, path_of(tmp_path, "more"))).deriver is None
        assert await items.find(path_of(tmp_path, "new")[11:43]) is None

    run(tmp_path, test)


def test_a_table_that_becomes_unreadable(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("content")
    table(tmp_path, f'[file]\nderiver = "{DERIVER}"')

    async def test(items: DirectoryItems) -> None:
        path = path_of(tmp_path, "file")
        table(tmp_path, "an editor writes th")
        (tmp_path / "new").write_text("new")
        for _ in range(3):
            # What it said holds, and what may be in it now is not guessed.
            assert (await found(items, path)).deriver == DERIVER
            assert await items.find(path_of(tmp_path, "new")[11:43]) is None
        assert len(caplog.records) == 2
        table(tmp_path, f'[new]\nreferences = ["{NAMED}"]')
        assert (await found(items, path_of(tmp_path, "new"))).references == (NAMED,)
        assert (await found(items, path)).deriver is None

    run(tmp_path, test)


def test_a_table_that_cannot_be_read_stops_no_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "items.toml").write_bytes(b"\xff")
    DirectoryItems(str(tmp_path), STORE_DIR)
    assert "can't decode" in caplog.text
    (tmp_path / "items.toml").unlink()
    (tmp_path / "items.toml").mkdir()
    DirectoryItems(str(tmp_path), STORE_DIR)
    assert "cannot read items.toml" in caplog.text


@given(st.one_of(st.text(), st.text(alphabet='ab[]"=,.\n {}1', max_size=40)))
def test_any_table(text: str) -> None:
    try:
        said = parse_item_table(text.encode("utf-8", "surrogatepass"), {"a", "b"})
    except InvalidItems:
        return
    assert said.facts.keys() | said.wrong <= {"a", "b"}
    assert not said.facts.keys() & said.wrong
    assert not said.wrong or said.remarks


@pytest.mark.parametrize(
    "name",
    [
        ".hidden",
        ".nfs0001",
        ".new-item",
        "a b",
        "naïve",
        "x~",
        "x" * 212,
        "a@b",
        os.fsdecode(b"\xff"),
    ],
)
def test_names_that_no_item_can_have(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("content")
    (tmp_path / name).write_text("content")

    async def test(items: DirectoryItems) -> None:
        await found(items, path_of(tmp_path, "file"))
        (tmp_path / "later").write_text("content")
        await found(items, path_of(tmp_path, "later"))

    run(tmp_path, test)
    (said,) = [record.getMessage() for record in caplog.records]
    assert repr(name) in said
    assert "cannot be a store item" in said


def test_many_odd_names_are_not_many_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(100):
        (tmp_path / f".{number}").write_text("")
    said = remarks(tmp_path, caplog)
    assert len(said) == 21
    assert said[-1] == "and 80 more like this"


def test_a_hash_part_that_two_have(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in (NAMED, f"{NAMED}-doc", f"{NAMED[:33]}app"):
        (tmp_path / name).write_text(name)
    said = remarks(tmp_path, caplog)
    assert len(said) == 2
    assert all(f"{NAMED[:33]}app and {NAMED}" in line and "is left out" in line for line in said)

    async def test(items: DirectoryItems) -> None:
        await found(items, f"{STORE_DIR}/{NAMED[:33]}app")

    run(tmp_path, test)


def test_what_stores_put_beside_their_items(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ".links").mkdir()
    (tmp_path / NAMED).write_text("content")
    (tmp_path / f"{DERIVER}.chroot").mkdir()
    for name in (NAMED, NOTES):
        (tmp_path / f"{name}.lock").touch(0o600)
    kept = f"{'0' * 32}-yarn.lock"
    (tmp_path / kept).touch(0o444)

    async def test(items: DirectoryItems) -> None:
        await found(items, f"{STORE_DIR}/{NAMED}")
        await found(items, f"{STORE_DIR}/{kept}")
        assert await items.find(NOTES[:32]) is None
        assert await items.find(DERIVER[:32]) is None

    run(tmp_path, test)
    assert caplog.records == []


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(InvalidItems, match="cannot read"):
        DirectoryItems(str(tmp_path / "nowhere"), STORE_DIR)


def test_what_changes_is_noticed(tmp_path: Path) -> None:
    async def test(items: DirectoryItems) -> None:
        (tmp_path / "file").write_text("one")
        first = path_of(tmp_path, "file")
        await found(items, first)
        # Another file in its place.
        (tmp_path / "new").write_text("two")
        os.rename(tmp_path / "new", tmp_path / "file")
        second = path_of(tmp_path, "file")
        assert await items.find(first[11:43]) is None
        assert items.location(await found(items, second)) == str(tmp_path / "file")
        table(tmp_path, f"[file]\nderiver = '{DERIVER}'")
        assert (await found(items, second)).deriver == DERIVER
        (tmp_path / "items.toml").unlink()
        assert (await found(items, second)).deriver is None
        (tmp_path / NAMED).write_text("named")
        await found(items, f"{STORE_DIR}/{NAMED}")
        os.unlink(tmp_path / "file")
        assert await items.find(second[11:43]) is None

    run(tmp_path, test)


def test_a_named_entry_that_changes(tmp_path: Path) -> None:
    async def test(items: DirectoryItems) -> None:
        for text in ("one", "another"):
            (tmp_path / NAMED).write_text(text)
            item = await found(items, f"{STORE_DIR}/{NAMED}")
            assert (item.nar_hash, item.nar_size) == nar_hash(str(tmp_path / NAMED))

    run(tmp_path, test)


def test_a_reference_that_changes(tmp_path: Path) -> None:
    (tmp_path / "lib").write_text("one")
    (tmp_path / NAMED).write_text("app")
    table(tmp_path, f'["{NAMED}"]\nreferences = ["lib"]')

    async def test(items: DirectoryItems) -> None:
        for text in ("one", "another"):
            (tmp_path / "lib").write_text(text)
            item = await found(items, f"{STORE_DIR}/{NAMED}")
            assert item.references == (path_of(tmp_path, "lib")[11:],)

    run(tmp_path, test)


@contextmanager
def socket_at(path: Path) -> Iterator[None]:
    directory = os.open(path.parent, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            # However long the path is: a socket's has 107 bytes at most.
            server.bind(f"/proc/self/fd/{directory}/{path.name}")
            yield
    finally:
        os.close(directory)


def test_entries_that_no_nar_can_hold(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "z").write_text("content")

    async def test(items: DirectoryItems) -> None:
        with pytest.raises(UnsupportedItem):
            await items.find(NAMED[:32])
        # Others are not hindered by one that has no path.
        for _ in range(2):
            await found(items, path_of(tmp_path, "z"))
            assert await items.find("0" * 32) is None
        os.unlink(tmp_path / "device")
        (tmp_path / "device").write_text("a file after all")
        await found(items, path_of(tmp_path, "device"))

    with socket_at(tmp_path / NAMED), socket_at(tmp_path / "device"):
        run(tmp_path, test)
    assert len(caplog.records) == 1


def test_an_entry_is_hashed_once(tmp_path: Path) -> None:
    (tmp_path / "tree" / "below").mkdir(parents=True)
    (tmp_path / "tree" / "below" / "file").write_text("content")
    path = path_of(tmp_path, "tree")

    async def test(items: DirectoryItems) -> None:
        many = await asyncio.gather(*(items.find(path[11:43]) for _ in range(30)))
        assert many == [await found(items, path)] * 30
        # A change that deep does not show at the top: who read all again would see it.
        (tmp_path / "tree" / "below" / "file").write_text("another")
        assert await items.find(path[11:43]) == many[0]
        os.utime(tmp_path / "tree")
        assert await items.find(path[11:43]) is None
        await found(items, path_of(tmp_path, "tree"))

    run(tmp_path, test)


@contextmanager
def lookups(directory: Path, *functions: str) -> Iterator[list[str]]:
    """For what paths these functions of `os` are called, of a directory and all below."""
    seen: list[str] = []

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *args: Any, **options: Any) -> Any:
            if isinstance(path, str | bytes) and os.fsdecode(path).startswith(str(directory)):
                seen.append(os.fsdecode(path))
            return function(path, *args, **options)

        return call

    with ExitStack() as stack:
        for name in functions:
            stack.enter_context(mock.patch(f"os.{name}", counted(getattr(os, name))))
        yield seen


def test_what_is_not_there_costs_no_look_at_every_entry(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"entry-{number}").write_text(str(number))

    async def test(items: DirectoryItems) -> None:
        await found(items, path_of(tmp_path, "entry-7"))
        assert await items.find("0" * 32) is None
        for number in range(20):
            with lookups(tmp_path, "lstat", "open") as looked_up:
                assert await items.find(f"{number:032d}") is None
            # The directory and its table.
            assert len(looked_up) <= 2
        await found(items, path_of(tmp_path, "entry-100"))
        # What comes is there at once.
        (tmp_path / "new").write_text("new")
        await found(items, path_of(tmp_path, "new"))

    # The times of the directory are old enough to show a change.
    later = time.time_ns() + 10**10
    with mock.patch("time.time_ns", lambda: later):
        run(tmp_path, test)


def test_what_cannot_be_hashed_is_not_read_again_for_everybody(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a").write_text("content")

    async def test(items: DirectoryItems) -> None:
        for number in range(20):
            with lookups(tree, "open") as looked_up:
                assert await items.find(f"{number:032d}") is None
            assert bool(looked_up) == (number == 0)

    with socket_at(tree / "z"):
        run(tmp_path, test)


def test_a_caller_that_gives_up(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    path = path_of(tmp_path, "file")

    async def test(items: DirectoryItems) -> None:
        task = asyncio.ensure_future(items.find(path[11:43]))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        await found(items, path)

    run(tmp_path, test)
