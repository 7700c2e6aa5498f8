"""Restoring: nothing outside the target, whatever the tree says or others do meanwhile."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eris_fs import (
    EmptyDirectory,
    FilePiece,
    Limits,
    RegularFile,
    Restorer,
    Symlink,
    TargetExists,
    Tree,
    TreeTooLarge,
    UnsafePath,
)
from tests.descriptors import descriptors, left_open
from tests.eris_fs.trees import File, Link, Node, capability, lay_out, read_back

FILE = RegularFile(capability())
CONTENT = b"content"


def restore(tree: Tree, target: Path, limits: Limits | None = None) -> None:
    """Restore a tree, with the same content in each file."""
    restorer = Restorer(tree, target, limits or Limits())
    try:
        restorer.begin()
        restorer.write(FilePiece(path, CONTENT, last=True) for path in restorer.files)
        restorer.finish()
    finally:
        restorer.close()


@contextmanager
def restoring(tree: Tree, target: Path) -> Iterator[Restorer]:
    """Begin to restore; whatever comes of it, nothing stays open."""
    before = descriptors()
    restorer = Restorer(tree, target)
    try:
        restorer.begin()
        yield restorer
    finally:
        restorer.close()
        assert not left_open(before)


def test_all_kinds(tmp_path: Path) -> None:
    tree: Tree = {
        ("z",): FILE,
        ("a", "b", "run"): RegularFile(capability(), executable=True),
        ("a", "empty", "er"): EmptyDirectory(),
        ("a", "only", "link"): Symlink("/nowhere"),
        ("a.b",): Symlink("a"),
    }
    restore(tree, tmp_path / "out")
    assert read_back(tmp_path / "out") == {
        "z": File(CONTENT),
        "a": {
            "b": {"run": File(CONTENT, executable=True)},
            "empty": {"er": {}},
            "only": {"link": Link("/nowhere")},
        },
        "a.b": Link("a"),
    }


@pytest.mark.parametrize("tree", [{}, {(): EmptyDirectory()}])
def test_an_empty_tree(tmp_path: Path, tree: Tree) -> None:
    restore(tree, tmp_path / "out")
    assert read_back(tmp_path / "out") == {}


def test_a_tree_that_is_a_file_or_a_symlink(tmp_path: Path) -> None:
    restore({(): RegularFile(capability(), executable=True)}, tmp_path / "file")
    restore({(): Symlink("file")}, tmp_path / "link")
    assert read_back(tmp_path) == {"file": File(CONTENT, executable=True), "link": Link("file")}


def test_modes_are_the_umasks(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        tree: Tree = {
            ("d", "f"): FILE,
            ("d", "x"): RegularFile(capability(), executable=True),
            ("e",): EmptyDirectory(),
        }
        restore(tree, tmp_path / "out")
    finally:
        os.umask(before)
    modes = {
        name: stat.S_IMODE((tmp_path / "out" / name).stat().st_mode)
        for name in (".", "d", "d/f", "d/x", "e")
    }
    assert modes == {".": 0o750, "d": 0o750, "d/f": 0o640, "d/x": 0o750, "e": 0o750}


def test_pieces(tmp_path: Path) -> None:
    with restoring({("a",): FILE, ("b",): FILE, ("c",): FILE}, tmp_path / "out") as restorer:
        restorer.write([FilePiece(("a",), b"1", last=False)])
        restorer.write([FilePiece(("a",), b"2", last=False), FilePiece(("a",), b"", last=True)])
        restorer.write([FilePiece(("b",), b"", last=True), FilePiece(("c",), b"3", last=True)])
        restorer.finish()
    assert read_back(tmp_path / "out") == {"a": File(b"12"), "b": File(b""), "c": File(b"3")}


@pytest.mark.parametrize("path", [("b",), ("c",), ()])
def test_pieces_out_of_order(tmp_path: Path, path: tuple[str, ...]) -> None:
    with (
        restoring({("a",): FILE, ("b",): FILE}, tmp_path / "out") as restorer,
        pytest.raises(ValueError, match="order of the files"),
    ):
        restorer.write([FilePiece(path, b"", last=True)])


@pytest.mark.parametrize("tree", [{}, {("a",): FILE}, {(): FILE}, {(): Symlink("x")}])
@pytest.mark.parametrize("there", [File(b"mine"), Link("elsewhere"), {}, {"a": File(b"mine")}])
def test_what_is_there_is_left_alone(tmp_path: Path, tree: Tree, there: Node) -> None:
    lay_out(there, tmp_path / "out")
    before = descriptors()
    with pytest.raises(TargetExists) as caught:
        restore(tree, tmp_path / "out")
    assert caught.value.path == str(tmp_path / "out")
    assert read_back(tmp_path) == {"out": there}
    assert not left_open(before)


def test_a_target_whose_name_is_not_utf8(tmp_path: Path) -> None:
    target = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    restore({("a",): FILE}, target)
    assert read_back(target) == {"a": File(CONTENT)}


@pytest.mark.parametrize("target", ["/", "..", "."])
def test_targets_without_a_name(target: str) -> None:
    with pytest.raises(TargetExists):
        restore({("a",): FILE}, Path(target))


def test_the_parent_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        restore({("a",): FILE}, tmp_path / "missing" / "out")


HOSTILE: dict[str, Tree] = {
    "dot dot": {("..", "evil"): FILE},
    "dot dot within": {("a", "..", "..", "evil"): FILE},
    "dot dot itself": {("..",): Symlink("x")},
    "dot": {(".", "evil"): FILE},
    "absolute": {("", "tmp", "evil"): FILE},
    "a slash": {("../evil",): FILE},
    "an absolute component": {("/tmp/evil",): FILE},
    "NUL": {("evil\0",): FILE},
    "a surrogate": {("\udc80",): FILE},
    "an empty component": {("a", "", "evil"): FILE},
    "an empty name": {("",): FILE},
    "a directory dot dot": {("..", "evil"): EmptyDirectory()},
    "a symlink above": {("..", "evil"): Symlink("x")},
    "under a symlink": {("a",): Symlink(".."), ("a", "evil"): FILE},
    "under a symlink, first": {("a", "evil"): FILE, ("a",): Symlink("..")},
    "deep under a symlink": {("a",): Symlink("/"), ("a", "b", "c", "evil"): FILE},
    "a directory under a symlink": {("a",): Symlink(".."), ("a", "evil"): EmptyDirectory()},
    "a symlink under a symlink": {("a",): Symlink(".."), ("a", "evil"): Symlink("x")},
    "under a file": {("a",): FILE, ("a", "evil"): FILE},
    "under an empty directory": {("a",): EmptyDirectory(), ("a", "evil"): FILE},
    "beside the empty path": {(): Symlink("/"), ("evil",): FILE},
    "a target with NUL": {("a",): Symlink("a\0b")},
    "an empty target": {("a",): Symlink("")},
    "a name too long": {("a" * 256,): FILE},
    "too deep": {("a",) * 257: FILE},
    "too long": {("a" * 255,) * 17: FILE},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_trees(tmp_path: Path, name: str) -> None:
    (tmp_path / "jail").mkdir()
    before = descriptors()
    with pytest.raises(UnsafePath) as caught:
        restore(HOSTILE[name], tmp_path / "jail" / "out")
    assert str(caught.value).isprintable()
    # Such a tree is refused as a whole: not even the target is made.
    assert read_back(tmp_path) == {"jail": {}}
    assert not left_open(before)


def test_too_many_entries(tmp_path: Path) -> None:
    with pytest.raises(TreeTooLarge):
        restore({("a", "b", "c"): FILE}, tmp_path / "out", Limits(entries=2))
    assert read_back(tmp_path) == {}


TWINS: dict[str, tuple[Tree, Node]] = {
    "file and file": ({("a",): FILE}, File(b"twin")),
    "file and symlink": ({("a",): FILE}, Link("../victim")),
    "file and dangling symlink": ({("a",): FILE}, Link("../evil")),
    "file and directory": ({("a",): FILE}, {}),
    "directory and directory": ({("a", "b"): FILE}, {}),
    "directory and symlink": ({("a", "b"): FILE}, Link("..")),
    "directory and file": ({("a", "b"): FILE}, File(b"twin")),
    "empty directory and directory": ({("a",): EmptyDirectory()}, {}),
    "symlink and file": ({("a",): Symlink("x")}, File(b"twin")),
    "symlink and symlink": ({("a",): Symlink("x")}, Link("x")),
    "symlink and directory": ({("a",): Symlink("x")}, {}),
    "symlink's directory and symlink": ({("a", "b"): Symlink("x")}, Link("..")),
}


@pytest.mark.parametrize("name", TWINS)
def test_twins(tmp_path: Path, name: str) -> None:
    # Where names differing in case are one, the second finds the first's entry in its place.
    # The same happens if somebody else puts something there; so it can be tested anywhere.
    tree, twin = TWINS[name]
    (tmp_path / "victim").write_bytes(b"victim")
    with restoring(tree, tmp_path / "out") as restorer:
        lay_out(twin, tmp_path / "out" / "a")
        with pytest.raises(UnsafePath, match="another entry's") as caught:
            restorer.write(FilePiece(path, CONTENT, last=True) for path in restorer.files)
            restorer.finish()
    assert caught.value.path == ("a",)
    assert read_back(tmp_path) == {"victim": File(b"victim"), "out": {"a": twin}}


def test_symlinks_come_last(tmp_path: Path) -> None:
    with restoring({("a",): Symlink("x"), ("b",): FILE}, tmp_path / "out") as restorer:
        restorer.write([FilePiece(("b",), b"", last=True)])
        assert read_back(tmp_path / "out") == {"b": File(b"")}
        restorer.finish()
    assert read_back(tmp_path / "out") == {"a": Link("x"), "b": File(b"")}


@pytest.mark.parametrize("replaced", [Path("out"), Path("out", "d")])
def test_a_directory_replaced_by_a_symlink_is_not_followed(tmp_path: Path, replaced: Path) -> None:
    (tmp_path / "outside" / "d").mkdir(parents=True)
    with restoring({("d", "link"): Symlink("x"), ("z",): FILE}, tmp_path / "out") as restorer:
        restorer.write([FilePiece(("z",), b"", last=True)])
        (tmp_path / replaced).rename(tmp_path / "away")
        (tmp_path / replaced).symlink_to(tmp_path / "outside")
        with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
            restorer.finish()
    assert read_back(tmp_path / "outside") == {"d": {}}


def test_the_directory_around_gets_another_name_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    with restoring({("a",): Symlink("x"), ("b",): FILE}, tmp_path / "here" / "out") as restorer:
        restorer.write([FilePiece(("b",), b"", last=True)])
        (tmp_path / "here").rename(tmp_path / "there")
        lay_out({"out": {}}, tmp_path / "here")
        restorer.finish()
    assert read_back(tmp_path) == {
        "here": {"out": {}},
        "there": {"out": {"a": Link("x"), "b": File(b"")}},
    }


def test_errors_name_the_file(tmp_path: Path) -> None:
    with restoring({("d", "a"): FILE, ("d", "b"): FILE}, tmp_path / "out") as restorer:
        restorer.write([FilePiece(("d", "a"), b"", last=True)])
        (tmp_path / "out" / "d" / "a").unlink()
        (tmp_path / "out" / "d").rmdir()
        with pytest.raises(FileNotFoundError) as caught:
            restorer.write([FilePiece(("d", "b"), b"", last=True)])
    assert caught.value.filename == str(tmp_path / "out" / "d" / "b")
