"""Real files to events: what is there, in nar order, and nothing that changes meanwhile."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guix_glue.errors import UnsupportedItem
from guix_glue.formats.nar import (
    DEFAULT_NAR_LIMITS,
    Data,
    Directory,
    File,
    NarEvent,
    NarReader,
    Symlink,
)
from guix_glue.local.archive import nar_hash, read_item, read_outline
from tests.examples import examples
from tests.guix_glue.formats.nars import Link, Node, Plain, events_of, joined, nar, sample_nars

MIB = 1024 * 1024
SAMPLE_NARS = sample_nars()

ODD: Node = {
    b"Case": Plain(b""),
    b"case": Plain(b"x", executable=True),
    b"case.1": Link(b"/nowhere"),
    b"dir": {b"deeper": {b"empty": {}}, b"last": Plain(b"12345678")},
    b"dir-": Plain(b"before the files of dir as text, after them in a nar"),
    "Übung".encode(): Plain(bytes(8191)),
    b"\xff": Link(b"\xfe../x"),
}


def make(target: bytes, node: Node) -> None:
    match node:
        case Plain(content, executable):
            Path(os.fsdecode(target)).write_bytes(content)
            os.chmod(target, 0o755 if executable else 0o644)
        case Link(to):
            os.symlink(to, target)
        case _:
            os.mkdir(target)
            for name in node:
                make(target + b"/" + name, node[name])


def node_of(content: bytes) -> Node:
    """What a nar holds."""
    reader = NarReader()
    events = joined(reader.feed(content))
    reader.finish()
    top: dict[bytes, Node] = {}
    for event, following in zip(events, [*events[1:], None], strict=True):
        if isinstance(event, Data):
            continue
        *parents, name = (b"", *event.path)
        _directory(top, parents)[name] = _node(event, following)
    return top[b""]


def _directory(top: dict[bytes, Node], path: list[bytes]) -> dict[bytes, Node]:
    for name in path:
        below = top[name]
        assert isinstance(below, dict)
        top = below
    return top


def _node(event: Directory | File | Symlink, following: NarEvent | None) -> Node:
    match event:
        case Directory():
            return {}
        case Symlink(_, target):
            return Link(target)
        case File(_, _, executable):
            content = bytes(following.content) if isinstance(following, Data) else b""
            return Plain(content, executable)


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


# --- what is there ------------------------------------------------------------------------------


def test_an_item_with_all_there_is(tmp_path: Path) -> None:
    make(os.fsencode(tmp_path / "item"), ODD)
    events = list(read_item(str(tmp_path / "item")))
    assert joined(events) == events_of(ODD)
    content = nar(ODD)
    assert nar_hash(str(tmp_path / "item")) == (hashlib.sha256(content).digest(), len(content))


@pytest.mark.parametrize("item", [Plain(b"hello"), Plain(b"", executable=True), Link(b"x"), {}])
def test_an_item_may_be_anything(tmp_path: Path, item: Node) -> None:
    make(os.fsencode(tmp_path / "item"), item)
    assert joined(list(read_item(str(tmp_path / "item")))) == events_of(item)


@pytest.mark.parametrize("name", SAMPLE_NARS)
def test_what_guix_and_nix_had_in_their_stores(tmp_path: Path, name: str) -> None:
    content, digest = SAMPLE_NARS[name]
    make(os.fsencode(tmp_path / "item"), node_of(content))
    assert nar_hash(str(tmp_path / "item")) == (digest, len(content))


def test_large_files_come_in_pieces(tmp_path: Path) -> None:
    content = os.urandom(2 * MIB + 1)
    (tmp_path / "item").write_bytes(content)
    (file, *pieces) = read_item(str(tmp_path / "item"))
    assert file == File((), len(content), False)
    assert all(isinstance(piece, Data) and 0 < len(piece.content) <= MIB for piece in pieces)
    assert joined(pieces) == [Data(content)]


def test_names_are_bytes_below_a_path_that_is_text(tmp_path: Path) -> None:
    top = os.fsencode(tmp_path) + b"/\xff item"
    make(top, {b"\xfe": Plain(b"1")})
    (_, file, _) = read_item(os.fsdecode(top))
    assert file == File((b"\xfe",), 1, False)


@pytest.mark.parametrize("mode", [0o100, 0o500, 0o744])
def test_the_owner_s_bit_makes_a_file_executable(tmp_path: Path, mode: int) -> None:
    (tmp_path / "item").touch(mode)
    assert list(read_item(str(tmp_path / "item"))) == [File((), 0, True)]
    (tmp_path / "item").chmod(mode & ~0o100 | 0o411)
    assert list(read_item(str(tmp_path / "item"))) == [File((), 0, False)]


def test_a_symlink_is_never_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    (tmp_path / "item").symlink_to("outside")
    assert list(read_item(str(tmp_path / "item"))) == [Symlink((), b"outside")]


def test_another_program_makes_the_same_nar(tmp_path: Path) -> None:
    if shutil.which("nix-store") is None:
        pytest.skip("nix-store is not installed")
    make(os.fsencode(tmp_path / "item"), ODD)
    made = subprocess.run(
        ["nix-store", "--dump", str(tmp_path / "item")],
        capture_output=True,
        env={**os.environ, "HOME": str(tmp_path)},
        timeout=60,
        check=True,
    ).stdout
    digest = hashlib.sha256(made).digest()
    assert nar_hash(str(tmp_path / "item")) == (digest, len(made))


# --- what a nar cannot hold ---------------------------------------------------------------------


def test_pipes_and_sockets_are_refused(tmp_path: Path) -> None:
    (tmp_path / "item").mkdir()
    os.mkfifo(tmp_path / "item" / "pipe")
    with pytest.raises(UnsupportedItem, match=r"item/pipe: .*pipe"):
        list(read_item(str(tmp_path / "item")))
    (tmp_path / "item" / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "item" / "socket"))
        with pytest.raises(UnsupportedItem, match="item/socket"):
            list(read_item(str(tmp_path / "item")))


def test_a_device_is_refused() -> None:
    with pytest.raises(UnsupportedItem, match="device"):
        list(read_item("/dev/null"))


def test_what_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(read_item(str(tmp_path / "item")))


def test_directories_that_no_reader_would_take(tmp_path: Path) -> None:
    node: Node = {}
    for _ in range(DEFAULT_NAR_LIMITS.depth + 1):
        node = {b"d": node}
    make(os.fsencode(tmp_path / "item"), node)
    before = descriptors()
    with pytest.raises(UnsupportedItem, match="deep"):
        list(read_item(str(tmp_path / "item")))
    assert descriptors() == before


def test_a_deep_tree_takes_no_more_descriptors_than_a_flat_one(tmp_path: Path) -> None:
    node: Node = {b"z": Plain(b"1")}
    for _ in range(60):
        node = {b"a": Plain(b"2"), b"d": node, b"e": {b"f": Plain(b"3")}, b"g": Plain(b"4")}
    make(os.fsencode(tmp_path / "item"), node)
    before, most, events = descriptors(), 0, []
    for event in read_item(str(tmp_path / "item")):
        most = max(most, len(descriptors() - before))
        events.append(event)
    assert joined(events) == events_of(node)
    # Two directories and a file; counting them takes one.
    assert most <= 4
    assert descriptors() == before


# --- what changes meanwhile ---------------------------------------------------------------------


def test_a_directory_that_is_moved_while_it_is_read_leads_nowhere_else(tmp_path: Path) -> None:
    inside: Node = {b"x": {b"y": {b"z": Plain(b"1")}}, b"z": Plain(b"2")}
    make(os.fsencode(tmp_path / "item"), {b"a": {b"b": inside}, b"z": Plain(b"3")})
    make(os.fsencode(tmp_path / "elsewhere"), {b"secret": Plain(b"4")})
    before = descriptors()
    with pytest.raises(UnsupportedItem, match="changed"):
        for event in read_item(str(tmp_path / "item")):
            if isinstance(event, Directory) and event.path[-1:] == (b"y",):
                (tmp_path / "item" / "a" / "b" / "x").rename(tmp_path / "elsewhere" / "x")
            assert not isinstance(event, File) or event.path[-1] != b"secret"
    assert descriptors() == before


def begun(item: Path) -> Iterator[NarEvent]:
    """A walk that stands at the first file of an item."""
    events = read_item(str(item))
    while not isinstance(next(events), File):
        pass
    return events


@pytest.mark.parametrize("size", [0, 10, 2 * MIB - 1, 2 * MIB + 1, 5 * MIB])
def test_a_file_whose_size_changes(tmp_path: Path, size: int) -> None:
    item = tmp_path / "item"
    item.mkdir()
    (item / "file").write_bytes(bytes(2 * MIB))
    before = descriptors()
    events = begun(item)
    os.truncate(item / "file", size)
    with pytest.raises(UnsupportedItem, match=r"item/file: .*changed"):
        list(events)
    assert descriptors() == before


def test_a_file_that_is_written_over_with_its_times_put_back(tmp_path: Path) -> None:
    item = tmp_path / "item"
    make(os.fsencode(item), {b"file": Plain(b"one")})
    before = (item / "file").stat()
    events = begun(item)
    (item / "file").write_bytes(b"two")
    os.utime(item / "file", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(UnsupportedItem, match=r"item/file: .*changed"):
        list(events)


def test_a_file_that_is_linked_to_is_what_it_was(tmp_path: Path) -> None:
    """As a store does with equal files, at any time."""
    item = tmp_path / "item"
    make(os.fsencode(item), {b"file": Plain(b"one")})
    events = begun(item)
    os.link(item / "file", tmp_path / "link")
    assert list(events) == [Data(b"one")]


def test_an_empty_file_that_grows(tmp_path: Path) -> None:
    (tmp_path / "item").touch()
    events = begun(tmp_path / "item")
    (tmp_path / "item").write_bytes(b"x")
    with pytest.raises(UnsupportedItem, match="changed"):
        list(events)


def test_a_file_that_vanishes(tmp_path: Path) -> None:
    make(os.fsencode(tmp_path / "item"), {b"a": Plain(b""), b"b": Plain(b"")})
    events = begun(tmp_path / "item")
    (tmp_path / "item" / "b").unlink()
    with pytest.raises(UnsupportedItem, match="changed"):
        list(events)


def test_a_directory_that_is_moved_leads_nowhere_else(tmp_path: Path) -> None:
    item = tmp_path / "item"
    make(os.fsencode(item), {b"d": {b"a": Plain(b"1"), b"b": Plain(b"2")}})
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "b").write_text("secret")
    events = begun(item)
    (item / "d").rename(tmp_path / "moved")
    (item / "d").symlink_to(tmp_path / "outside")
    assert list(events) == [Data(b"1"), File((b"d", b"b"), 1, False), Data(b"2")]


def test_a_walk_that_is_given_up_closes_what_it_holds(tmp_path: Path) -> None:
    make(os.fsencode(tmp_path / "item"), {b"d": {b"e": {b"a": Plain(b"1")}}})
    before = descriptors()
    events = read_item(str(tmp_path / "item"))
    while not isinstance(next(events), File):
        pass
    assert len(descriptors()) > len(before)
    events.close()
    assert descriptors() == before


# --- anything -----------------------------------------------------------------------------------

NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: name not in (b".", b"..") and not {0, ord("/")} & set(name)
)
TARGETS = st.binary(min_size=1, max_size=30).filter(lambda target: 0 not in target)
NODES: st.SearchStrategy[Node] = st.recursive(
    st.builds(Plain, st.binary(max_size=40), st.booleans()) | st.builds(Link, TARGETS),
    lambda nodes: st.dictionaries(NAMES, nodes, max_size=4),
    max_leaves=12,
)


@settings(
    max_examples=examples(50),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(node=NODES)
def test_any_item_is_what_its_nar_says(tmp_path: Path, node: Node) -> None:
    item = tmp_path / "item"
    try:
        make(os.fsencode(item), node)
        assert joined(list(read_item(str(item)))) == events_of(node)
        content = nar(node)
        assert nar_hash(str(item)) == (hashlib.sha256(content).digest(), len(content))
    finally:
        if item.is_dir() and not item.is_symlink():
            shutil.rmtree(item)
        else:
            item.unlink()


def test_an_outline_is_the_same_without_contents(tmp_path: Path) -> None:
    target = tmp_path / "item"
    make(os.fsencode(target), ODD)
    whole = [event for event in read_item(str(target)) if not isinstance(event, Data)]
    assert list(read_outline(str(target))) == whole
    # No file is opened for it.
    (target / "dir-").chmod(0)
    assert list(read_outline(str(target))) == whole


def test_an_outline_of_what_no_nar_holds(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnsupportedItem, match="pipe"):
        list(read_outline(str(tmp_path)))
