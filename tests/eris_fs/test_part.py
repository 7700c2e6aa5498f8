"""A part of a tree, chosen by paths and patterns; and what is in which directory."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

import eris_fs
from eris_fs import (
    EmptyDirectory,
    Entry,
    InvalidPattern,
    NothingMatches,
    PackedFile,
    PackedTree,
    Path,
    Symlink,
    entries_below,
    entries_in,
    is_directory,
    nearest,
    path_of,
    take_part,
)


def tree_of(*texts: str) -> dict[Path, Entry]:
    """A tree of these paths: with a slash at the end empty directories, with an @ symlinks."""
    return {path_of(text.rstrip("@")): _entry(text) for text in texts}


def _entry(text: str) -> Entry:
    if text.endswith("/"):
        return EmptyDirectory()
    return Symlink("x") if text.endswith("@") else PackedFile(0, 1)


TREE = tree_of(
    "README",
    "docs/a.txt",
    "docs/b[1].txt",
    "docs/img/p.jpg",
    "docs/img/q.png",
    "empty/",
    "latest@",
    "src/README",
    "src/docs/c.txt",
)


def chosen(*texts: str) -> list[str]:
    return sorted("/".join(path) for path in take_part(TREE, texts).tree)


@pytest.mark.parametrize(
    ("texts", "paths"),
    [
        (["README"], ["README", "src/README"]),
        (["/README"], ["README"]),
        (["./README"], ["README"]),
        (["src/README"], ["src/README"]),
        (["/docs/"], ["docs/a.txt", "docs/b[1].txt", "docs/img/p.jpg", "docs/img/q.png"]),
        (["docs/img"], ["docs/img/p.jpg", "docs/img/q.png"]),
        (["*.jpg", "*.png"], ["docs/img/p.jpg", "docs/img/q.png"]),
        (["docs/*.txt"], ["docs/a.txt", "docs/b[1].txt"]),
        (["docs/b[1].txt"], ["docs/b[1].txt"]),
        (["**/docs/*.txt"], ["docs/a.txt", "docs/b[1].txt", "src/docs/c.txt"]),
        (["img", "!*.png"], ["docs/img/p.jpg"]),
        (["img", "!*.png", "q.*"], ["docs/img/p.jpg", "docs/img/q.png"]),
        (["empty/"], ["empty"]),
        (["latest"], ["latest"]),
    ],
)
def test_what_is_chosen(texts: Sequence[str], paths: list[str]) -> None:
    assert chosen(*texts) == paths


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("docs/a.txt", ("docs", "a.txt")),
        ("p.jpg", ("docs", "img", "p.jpg")),
        ("docs/b[1].txt", ("docs", "b[1].txt")),
        ("latest", ("latest",)),
        ("*.jpg", None),
        ("README", None),
        ("src/docs", None),
        ("empty", None),
    ],
)
def test_one_entry_is_named_or_it_is_matched(text: str, named: Path | None) -> None:
    assert take_part(TREE, [text]).named == named


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("Readme", ["README"]),
        ("docs/a.tx", ["docs/a.txt"]),
        ("doc/a.txt", ["docs", "docs/a.txt"]),
        ("empty/README", ["README", "src/README"]),
        ("nothing/like/it", []),
        ("README/", ["README", "src/README"]),
    ],
)
def test_what_matches_nothing_is_told_with_the_nearest(text: str, near: list[str]) -> None:
    with pytest.raises(NothingMatches) as caught:
        take_part(TREE, ["docs", text])
    assert ["/".join(path) for path in caught.value.near] == near
    assert caught.value.text == text


def test_what_cannot_be_chosen() -> None:
    with pytest.raises(NothingMatches):
        take_part(TREE, ["docs", "!docs"])
    with pytest.raises(InvalidPattern):
        take_part(TREE, ["../docs"])
    with pytest.raises(ValueError, match="more than 1,000"):
        take_part(TREE, ["docs"] * 1001)


def test_a_part_of_a_packed_tree_is_one() -> None:
    packed = PackedTree(TREE, [], "somebody")
    part = take_part(packed, ["docs"]).tree
    assert isinstance(part, PackedTree)
    assert part.writer == "somebody"


def test_no_name_is_compared_with_more_than_so_many() -> None:
    many: dict[Path, Entry] = {
        (f"name {number:07}",): EmptyDirectory() for number in range(100_000)
    }
    with pytest.raises(NothingMatches):
        take_part(many, ["nothing of this"])


# --- directories --------------------------------------------------------------------------------


def test_what_is_in_a_directory() -> None:
    found = {"/".join(path): entry for path, entry in entries_in(TREE, ()).items()}
    assert list(found) == ["README", "docs", "empty", "latest", "src"]
    assert found["docs"] is None
    assert found["empty"] == EmptyDirectory()
    assert list(entries_in(TREE, ("docs", "img"))) == [
        ("docs", "img", "p.jpg"),
        ("docs", "img", "q.png"),
    ]
    assert not entries_in(TREE, ("none",))
    assert list(entries_below(TREE, ("src",))) == [("src", "README"), ("src", "docs", "c.txt")]


def test_a_tree_that_is_a_file_has_it_at_the_top() -> None:
    tree: dict[Path, Entry] = {(): PackedFile(0, 1)}
    assert entries_in(tree, ()) == entries_below(tree, ()) == tree
    assert not is_directory(tree, ())


def test_what_is_a_directory() -> None:
    assert all(is_directory(TREE, path) for path in [(), ("docs",), ("docs", "img"), ("empty",)])
    assert not any(is_directory(TREE, path) for path in [("README",), ("latest",), ("none",)])
    assert nearest(TREE, ()) == []
    assert eris_fs.path_of("/a//./b/") == ("a", "b")
