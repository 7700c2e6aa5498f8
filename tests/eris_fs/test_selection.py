"""What a tree takes of a file system: several roots, what it may not have, what cannot be read."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

import eris_fs
from eris import MemoryStore
from eris_fs import (
    EmptyDirectory,
    Forbidden,
    ForbiddenFile,
    NotUtf8,
    OpenFile,
    Selection,
    TreeError,
    TreeTooLarge,
    Unreadable,
    Vanished,
    scan_tree,
)
from eris_fs.model import Limits
from tests.eris_fs.trees import File, Link, lay_out


def names(root: eris_fs.Root, selection: Selection) -> dict[str, type]:
    """What a scan comes upon."""
    seen = {}
    for path, found in scan_tree(root, selection=selection):
        if isinstance(found, OpenFile):
            found.close()
        seen["/".join(path)] = type(found)
    return seen


# --- several roots ------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    lay_out({"a": {"x": File(b"x"), "e": {}}, "f": File(b"f", True), "l": Link("a"), "e": {}}, home)
    return home


@pytest.mark.parametrize("put", [eris_fs.put_tree, eris_fs.put_packed_tree])
def test_several_roots_are_the_tree_that_holds_them(home: Path, put: object) -> None:
    roots = {name: str(home / name) for name in ("l", "a", "e", "f")}

    async def main() -> None:
        one = await put(MemoryStore(), home)  # type: ignore[operator]
        assert await put(MemoryStore(), roots) == one  # type: ignore[operator]

    asyncio.run(main())


def test_patterns_count_from_each_root_and_limits_for_all(home: Path) -> None:
    roots = {"a": str(home / "a"), "b": str(home / "a")}
    patterns = eris_fs.Patterns([eris_fs.parse_pattern("/x")])
    assert set(names(roots, Selection(patterns))) == {"a/e", "b/e"}
    with pytest.raises(TreeTooLarge):
        list(scan_tree(roots, Limits(entries=5)))
    assert len(names(roots, Selection())) == 4


def test_a_root_with_a_name_that_is_none(home: Path) -> None:
    with pytest.raises(TreeError):
        names({"a/b": str(home)}, Selection())
    with pytest.raises(NotUtf8):
        names({"caf\udce9": str(home)}, Selection())


# --- one file system ------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="nothing is mounted at /dev/shm")
def test_another_file_system_is_an_empty_directory() -> None:
    selection = Selection(one_file_system=True, skip=lambda error: None)
    found = names("/dev", selection)
    assert found["shm"] is EmptyDirectory
    assert not [name for name in found if name.startswith("shm/")]


# --- what no tree takes ---------------------------------------------------------------------------


def test_what_is_forbidden_is_known_under_any_name(home: Path, tmp_path: Path) -> None:
    os.link(home / "f", home / "a" / "other name")
    os.symlink(home, tmp_path / "link")
    met: list[ForbiddenFile] = []
    files = [
        ForbiddenFile("the store", str(tmp_path / "link" / "f")),
        ForbiddenFile("what comes later", str(home / "a" / "late")),
        ForbiddenFile("nowhere", str(tmp_path / "no" / "such")),
    ]
    forbidden = Forbidden(files, met.append)
    (home / "a" / "late").write_bytes(b"late")
    (home / "late").write_bytes(b"another")
    assert set(names(home, Selection(forbidden=forbidden))) == {"a/x", "a/e", "l", "e", "late"}
    assert {file.what for file in met} == {"the store", "what comes later"}
    assert forbidden.find(os.stat(home / "a" / "other name")) == files[0]
    assert forbidden.find(os.stat(home / "a" / "x")) is None


# --- what cannot be read --------------------------------------------------------------------------


def test_what_is_no_file_is_left_out_and_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(home / "e" / "pipe")
    monkeypatch.chdir(home)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("S")
    skipped: list[TreeError] = []
    found = names(home, Selection(skip=skipped.append))
    assert [str(error) for error in skipped] == [
        f"cannot encode {home}/S: it is a socket",
        f"cannot encode {home}/e/pipe: it is a named pipe",
    ]
    # All that was in it is left out: it is there, and empty.
    assert found["e"] is EmptyDirectory
    with pytest.raises(TreeError):
        names(home, Selection())


def vanishing(home: Path) -> eris_fs.Exclude:
    """A file goes when it was listed and is not opened yet."""

    def exclude(path: tuple[str, ...], is_directory: bool) -> bool:
        if path == ("f",):
            (home / "f").unlink()
        return False

    return exclude


def test_what_vanishes_is_left_out(home: Path) -> None:
    skipped: list[TreeError] = []
    found = names(home, Selection(vanishing(home), skip=skipped.append))
    assert "f" not in found and "a/x" in found
    assert [type(error) for error in skipped] == [Vanished]


def test_what_vanishes_is_an_error_else(home: Path) -> None:
    with pytest.raises(Vanished):
        names(home, Selection(vanishing(home)))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read(home: Path) -> None:
    (home / "f").chmod(0)
    (home / "a").chmod(0)
    skipped: list[TreeError] = []
    try:
        found = names(home, Selection(skip=skipped.append))
        assert set(found) == {"e", "l"}
        assert [type(error) for error in skipped] == [Unreadable, Unreadable]
        with pytest.raises(Unreadable):
            names(home, Selection())
    finally:
        (home / "a").chmod(0o700)


@pytest.mark.parametrize("size", [10, 300_000, 9 << 20])
@pytest.mark.parametrize("put", [eris_fs.put_tree, eris_fs.put_packed_tree])
def test_what_the_disk_cannot_read(
    home: Path, monkeypatch: pytest.MonkeyPatch, put: object, size: int
) -> None:
    path = home / "bad"
    path.write_bytes(b"b" * size)
    bad = path.stat().st_ino
    real = os.read

    def fails(descriptor: int, length: int) -> bytes:
        if os.fstat(descriptor).st_ino == bad:
            raise OSError(5, "Input/output error")
        return real(descriptor, length)

    async def main() -> None:
        skipped: list[TreeError] = []
        selection = Selection(skip=skipped.append)
        without = await put(MemoryStore(), home, selection=selection)  # type: ignore[operator]
        assert [type(error) for error in skipped] == [Unreadable]
        with pytest.raises(Unreadable):
            await put(MemoryStore(), home)  # type: ignore[operator]
        monkeypatch.undo()
        path.unlink()
        assert await put(MemoryStore(), home) == without  # type: ignore[operator]

    monkeypatch.setattr(os, "read", fails)
    asyncio.run(main())
