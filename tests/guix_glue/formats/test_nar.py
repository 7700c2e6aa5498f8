"""Nars: the captured ones and any other, there and back; nothing that is not canonical."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guix_glue.errors import InvalidNar
from guix_glue.formats.nar import (
    DEFAULT_NAR_LIMITS,
    Data,
    Directory,
    File,
    NarEvent,
    NarLimits,
    NarReader,
    NarWriter,
    Symlink,
)
from tests.examples import examples
from tests.guix_glue.formats.nars import (
    Link,
    Node,
    Plain,
    events_of,
    joined,
    nar,
    row,
    sample_nars,
    string,
)

SAMPLE_NARS = sample_nars()

ODD: Node = {
    b"Case": Plain(b""),
    b"case": Plain(b"x", executable=True),
    b"case.1": Link(b"/nowhere"),
    b"dir": {b"deeper": {b"empty": {}}, b"last": Plain(b"12345678")},
    b"zero": Plain(b"", executable=True),
    "Übung".encode(): Plain(bytes(8191)),
    b"\xff": Link(b"\xfe../x"),
}


def read(pieces: Iterable[bytes], limits: NarLimits = DEFAULT_NAR_LIMITS) -> list[NarEvent]:
    reader = NarReader(limits)
    events = [event for piece in pieces for event in reader.feed(piece)]
    reader.finish()
    assert reader.done
    return events


def write(events: Iterable[NarEvent]) -> bytes:
    writer = NarWriter()
    return b"".join([*map(writer.write, events), writer.finish()])


def cut(content: bytes, size: int) -> list[bytes]:
    return [content[start : start + size] for start in range(0, len(content), size)]


# --- what is right ------------------------------------------------------------------------------


def test_the_samples_are_all_there() -> None:
    assert len(SAMPLE_NARS) == 12


@pytest.mark.parametrize("name", SAMPLE_NARS)
@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
def test_a_sample_is_read_and_written_again(name: str, size: int) -> None:
    content, nar_hash = SAMPLE_NARS[name]
    assert hashlib.sha256(content).digest() == nar_hash
    events = read(cut(content, size))
    assert write(events) == content
    assert joined(events) == joined(read([content]))


def test_the_order_of_events_is_that_of_paths() -> None:
    events = read([nar(ODD)])
    paths = [event.path for event in events if not isinstance(event, Data)]
    assert paths == sorted(paths)
    assert joined(events) == events_of(ODD)


@pytest.mark.parametrize("split", range(0, 760, 3))
def test_a_nar_may_be_cut_anywhere(split: int) -> None:
    small: Node = {b"a": Plain(b"123", executable=True), b"b": {b"c": Link(b"t"), b"d": Plain(b"")}}
    content = nar(small)
    assert joined(read([content[:split], content[split:]])) == events_of(small)


@pytest.mark.parametrize("item", [Plain(b"hello"), Plain(b"", executable=True), Link(b"x"), {}])
def test_an_item_of_one_entry(item: Node) -> None:
    assert joined(read([nar(item)])) == events_of(item)
    assert write(events_of(item)) == nar(item)


def test_contents_pass_through_without_being_gathered() -> None:
    size = 64 * 1024 * 1024
    head = string(b"nix-archive-1") + row(b"(", b"type", b"regular", b"contents")
    reader = NarReader()
    assert reader.feed(head + size.to_bytes(8, "little")) == [File((), size, False)]
    piece = bytes(1024 * 1024)
    tracemalloc.start()
    try:
        for _ in range(64):
            (data,) = reader.feed(piece)
            assert isinstance(data, Data)
            assert data.content is piece
        assert tracemalloc.get_traced_memory()[1] < 64 * 1024
    finally:
        tracemalloc.stop()
    assert reader.feed(string(b")")) == []
    reader.finish()


def test_a_large_piece_beside_something_else_is_not_copied() -> None:
    content = nar(Plain(bytes(100_000)))
    (_, data) = NarReader().feed(content)
    assert isinstance(data, Data)
    assert isinstance(data.content, memoryview)
    assert data.content.obj is content


# --- what is wrong ------------------------------------------------------------------------------


def directory(*entries: tuple[bytes, bytes]) -> bytes:
    """A nar of a directory with entries in this order."""
    made = b"".join(
        row(b"entry", b"(", b"name", name, b"node") + node + string(b")") for name, node in entries
    )
    return row(b"nix-archive-1", b"(", b"type", b"directory") + made + string(b")")


FILE = row(b"(", b"type", b"regular", b"contents", b"x", b")")
HEAD = row(b"nix-archive-1", b"(", b"type")

WRONG = {
    "names out of order": directory((b"b", FILE), (b"a", FILE)),
    "a name twice": directory((b"a", FILE), (b"a", FILE)),
    "order of text, not of bytes": directory(("é".encode(), FILE), (b"z", FILE)),
    "an empty name": directory((b"", FILE)),
    "dot": directory((b".", FILE)),
    "dot dot": directory((b"..", FILE)),
    "a slash": directory((b"a/b", FILE)),
    "a NUL": directory((b"a\0b", FILE)),
    "a long name": directory((b"a" * 256, FILE)),
    "another magic": row(b"nix-archive-2", b"(", b"type", b"directory", b")"),
    "no type": row(b"nix-archive-1", b"(", b")"),
    "an unknown type": HEAD + row(b"fifo", b")"),
    "no contents": HEAD + row(b"regular", b")"),
    "executable with a value": HEAD + row(b"regular", b"executable", b"1", b"contents", b"x", b")"),
    "executable twice": HEAD
    + row(b"regular", b"executable", b"", b"executable", b"", b"contents", b"", b")"),
    "contents twice": HEAD + row(b"regular", b"contents", b"x", b"contents", b"y", b")"),
    "a symlink without target": HEAD + row(b"symlink", b")"),
    "an empty target": HEAD + row(b"symlink", b"target", b"", b")"),
    "a target with a NUL": HEAD + row(b"symlink", b"target", b"a\0b", b")"),
    "a long target": HEAD + row(b"symlink", b"target", b"a" * 4096, b")"),
    "an executable symlink": HEAD + row(b"symlink", b"executable", b"", b"target", b"x", b")"),
    "an entry without a node": HEAD + row(b"directory", b"entry", b"(", b"name", b"a", b")", b")"),
    "a node before its name": HEAD
    + row(b"directory", b"entry", b"(", b"node")
    + FILE
    + row(b"name", b"a", b")", b")"),
    "padding of contents": nar(Plain(b"x")).replace(b"x" + bytes(7), b"x" + bytes(6) + b"\1"),
    "padding of a name": nar({b"x": Plain(b"")}).replace(b"x" + bytes(7), b"x\1" + bytes(6)),
    "padding of a target": nar(Link(b"x")).replace(b"x" + bytes(7), b"x\1" + bytes(6)),
    "padding of a keyword": nar({}).replace(b"type" + bytes(4), b"type\0\0\0\1"),
    "an entry too many closed": nar({b"a": {}}) + string(b")"),
    "something behind it": nar({}) + b"\0",
    "a huge name": HEAD + row(b"directory", b"entry", b"(", b"name") + b"\xff" * 8,
    "a huge file": HEAD + row(b"regular", b"contents") + b"\xff" * 8,
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_what_no_writer_writes_is_refused(case: str, size: int) -> None:
    with pytest.raises(InvalidNar):
        read(cut(WRONG[case], size))


def test_an_error_tells_where() -> None:
    content = directory((b"b", FILE), (b"a", FILE))
    with pytest.raises(InvalidNar, match="does not come after") as caught:
        read(cut(content, 5))
    # Right behind the second name.
    assert caught.value.offset == content.index(string(b"a")) + 16


def test_what_is_wrong_is_refused_before_all_of_it_came() -> None:
    reader = NarReader()
    with pytest.raises(InvalidNar):
        reader.feed(string(b"nix-archive-2")[:21])


@pytest.mark.parametrize("length", range(0, len(nar(ODD)), 37))
def test_a_nar_that_is_cut_off_is_noticed(length: int) -> None:
    reader = NarReader()
    reader.feed(nar(ODD)[:length])
    assert not reader.done
    with pytest.raises(InvalidNar, match="cut off") as caught:
        reader.finish()
    assert caught.value.offset == length


LIMITED: dict[str, Callable[[int], tuple[NarLimits, Node]]] = {
    "size": lambda more: (NarLimits(size=len(nar(ODD)) - more), ODD),
    "entries": lambda more: (NarLimits(entries=11 - more), ODD),
    "depth": lambda more: (NarLimits(depth=3 - more), ODD),
    "name_size": lambda more: (NarLimits(name_size=6 - more), ODD),
    "target_size": lambda more: (NarLimits(target_size=8 - more), ODD),
}


@pytest.mark.parametrize("limit", LIMITED)
def test_limits_hold_to_the_byte(limit: str) -> None:
    limits, node = LIMITED[limit](0)
    assert joined(read([nar(node)], limits)) == events_of(node)
    limits, node = LIMITED[limit](1)
    with pytest.raises(InvalidNar, match=r"more than|longer than|beyond"):
        read([nar(node)], limits)


def test_a_file_that_cannot_fit_is_refused_before_its_content() -> None:
    limits = NarLimits(size=1000)
    with pytest.raises(InvalidNar, match="beyond"):
        NarReader(limits).feed(nar(Plain(bytes(2000)))[:200])


def test_directories_one_in_the_other_end() -> None:
    node: Node = {}
    for _ in range(DEFAULT_NAR_LIMITS.depth):
        node = {b"d": node}
    assert joined(read([nar(node)])) == events_of(node)
    with pytest.raises(InvalidNar, match="deep"):
        read([nar({b"d": node})])


@pytest.mark.parametrize(
    "events",
    [
        [],
        [Data(b"x")],
        [File((b"a",), 0, False)],
        [Directory(()), Directory(())],
        [Directory(()), Symlink((), b"x")],
        [File((), 0, False), File((b"a",), 0, False)],
        [File((), 2, False), Data(b"x")],
        [File((), 1, False), Data(b"xy")],
        [Directory(()), File((b"a",), 1, False), File((b"b",), 0, False)],
        [Directory(()), File((b"b",), 0, False), File((b"a",), 0, False)],
        [Directory(()), File((b"a",), 0, False), File((b"a", b"b"), 0, False)],
        [Directory(()), File((b"a", b"b"), 0, False)],
        [Directory(()), Directory((b"a",)), Directory((b"b",)), File((b"a", b"c"), 0, False)],
        [Directory(()), Directory((b"..",))],
        [Directory(()), Directory((b"a/b",))],
    ],
)
def test_a_writer_refuses_events_that_are_no_nar(events: list[NarEvent]) -> None:
    with pytest.raises(ValueError, match=r"."):
        write(events)


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


@given(node=NODES, size=st.integers(1, 100))
def test_any_item_goes_there_and_back(node: Node, size: int) -> None:
    content = nar(node)
    events = read(cut(content, size))
    assert joined(events) == events_of(node)
    assert write(events) == content


@given(data=st.binary(max_size=200), size=st.integers(1, 50))
def test_any_bytes_are_a_nar_or_not(data: bytes, size: int) -> None:
    with pytest.raises(InvalidNar):
        read(cut(data, size))


@settings(max_examples=examples(300))
@given(
    node=NODES,
    where=st.integers(0),
    change=st.integers(1, 255),
    removed=st.integers(0, 40),
    size=st.integers(1, 300),
)
def test_a_changed_nar_is_refused_or_another_one(
    node: Node, where: int, change: int, removed: int, size: int
) -> None:
    content = nar(node)
    where %= len(content)
    changed = content[:where] + bytes([content[where] ^ change]) + content[where + 1 + removed :]
    limits = replace(DEFAULT_NAR_LIMITS, size=1 << 20)
    try:
        events = read(cut(changed, size), limits)
    except InvalidNar as error:
        assert 0 <= error.offset <= max(len(changed), limits.size)
    else:
        # What is accepted is the one way to write it.
        assert write(events) == changed
