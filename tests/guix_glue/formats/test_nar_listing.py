"""Listings of nars: what is in an item, and where in its nar."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guix_glue.errors import UnsupportedItem
from guix_glue.formats.nar import Data, Directory, File, NarEvent
from guix_glue.formats.nar_listing import ListingWriter
from tests.guix_glue.formats.nars import Link, Node, Plain, events_of, nar

TREE: Node = {
    b'a"\\': Plain(b"", executable=True),
    b"bin": {b"deeper": {b"empty": {}, b"x": Plain(b"12345678")}, b"tool": Plain(b"#!", True)},
    b"link": Link(b"bin/tool"),
    b"zero": Plain(b""),
    "Übung".encode(): Plain(bytes(8191)),
}


def listed(node: Node, *, contents: bool) -> Any:
    """The listing of a tree, of events with or without contents."""
    writer = ListingWriter()
    events: list[NarEvent] = list(events_of(node))
    if not contents:
        events = [event for event in events if not isinstance(event, Data)]
    return json.loads("".join(map(writer.write, events)) + writer.finish())


def contents_by(entry: Any, whole: bytes, path: str = "") -> Iterator[tuple[str, bytes, bool]]:
    """All files of a listing, read out of the nar where it says that they are."""
    if entry["type"] == "directory":
        assert entry.keys() == {"type", "entries"}
        for name, inside in entry["entries"].items():
            yield from contents_by(inside, whole, f"{path}/{name}")
    elif entry["type"] == "regular":
        offset = entry["narOffset"]
        content = whole[offset : offset + entry["size"]]
        # Before it stands how long it is.
        assert whole[offset - 8 : offset] == entry["size"].to_bytes(8, "little")
        yield path, content, entry.get("executable", False)


@pytest.mark.parametrize("contents", [False, True])
def test_a_tree(contents: bool) -> None:
    listing = listed(TREE, contents=contents)
    assert listing["version"] == 1
    assert listing["root"]["entries"]["link"] == {"type": "symlink", "target": "bin/tool"}
    assert list(listing["root"]["entries"]["bin"]["entries"]) == ["deeper", "tool"]
    assert listing["root"]["entries"]["bin"]["entries"]["deeper"]["entries"]["empty"] == {
        "type": "directory",
        "entries": {},
    }
    assert list(contents_by(listing["root"], nar(TREE))) == [
        ('/a"\\', b"", True),
        ("/bin/deeper/x", b"12345678", False),
        ("/bin/tool", b"#!", True),
        ("/zero", b"", False),
        ("/Übung", bytes(8191), False),
    ]


@pytest.mark.parametrize(
    "node", [Plain(b"x"), Plain(b""), Plain(b"12345678", executable=True), {}, {b"a": Plain(b"")}]
)
def test_items_that_are_one_thing(node: Node) -> None:
    listing = listed(node, contents=False)
    if isinstance(node, Plain):
        assert list(contents_by(listing["root"], nar(node))) == [
            ("", node.content, node.executable)
        ]
    else:
        assert listing["root"]["type"] == "directory"


def test_a_link() -> None:
    assert listed(Link(b"/nowhere"), contents=False) == {
        "version": 1,
        "root": {"type": "symlink", "target": "/nowhere"},
    }


@pytest.mark.parametrize("node", [{b"\xff": Plain(b"")}, {b"a": Link(b"\xff")}, Link(b"\xfe")])
def test_what_is_no_text_is_in_no_listing(node: Node) -> None:
    with pytest.raises(UnsupportedItem, match="UTF-8"):
        listed(node, contents=False)


def test_nothing() -> None:
    with pytest.raises(ValueError, match="at least one entry"):
        ListingWriter().finish()


NAMES = st.text(st.sampled_from('ab"\\é\n '), min_size=1, max_size=3)
TREES = st.recursive(
    st.integers(0, 20) | st.booleans(),
    lambda inner: st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


def node_of(drawn: object) -> Node:
    match drawn:
        case dict():
            return {name.encode(): node_of(inside) for name, inside in drawn.items()}
        case bool():
            return Link(b"x" if drawn else b"y")
        case _:
            return Plain(b"z" * int(str(drawn)))


@given(TREES)
def test_every_file_is_where_it_is_said_to_be(drawn: object) -> None:
    node = node_of(drawn)
    whole = nar(node)
    listing = listed(node, contents=False)
    assert listing == listed(node, contents=True)
    sizes = [event.size for event in events_of(node) if isinstance(event, File)]
    files = list(contents_by(listing["root"], whole))
    assert [len(content) for _, content, _ in files] == sizes
    directories = sum(isinstance(event, Directory) for event in events_of(node))
    assert json.dumps(listing).count('"entries"') == directories
