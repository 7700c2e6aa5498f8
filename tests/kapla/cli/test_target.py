"""Where a decoded file or tree goes: the rare ways, on file systems that know less."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from eris_fs import remove_at
from kapla.cli import target as target_module
from kapla.cli.common import CommandError
from kapla.cli.target import Target
from tests.eris_fs.trees import File, Link, Node, lay_out, read_back

NEW_FILE: Node = File(b"new")
NEW_TREE: Node = {"new": File(b"new"), "link": Link("..")}
OLD: dict[str, Node] = {
    "file": File(b"old"),
    "directory": {"old": {"deep": File(b"old")}, "link": Link("/nowhere")},
    "symlink": Link("elsewhere"),
    "dangling": Link("nowhere"),
}
every_old = pytest.mark.parametrize("old", OLD.values(), ids=OLD.keys())
every_new = pytest.mark.parametrize("new", [NEW_FILE, NEW_TREE], ids=["file", "tree"])
every_replacement = pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(old, new, id=f"{name}-{'file' if new is NEW_FILE else 'tree'}")
        for name, old in OLD.items()
        for new in (NEW_FILE, NEW_TREE)
        # A file does not take the place of a directory.
        if (name, new) != ("directory", NEW_FILE)
    ],
)


@pytest.fixture(params=["as it is", "without renameat2", "plain renames only"])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system can do."""
    if request.param == "without renameat2":
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    elif request.param == "plain renames only":
        monkeypatch.setattr(target_module, "_rename", lambda *_: False)


@contextmanager
def prepared(out: str, *, force: bool) -> Iterator[Path]:
    """What a command has around its work."""
    preparing = Target(out, force=force).prepare()

    async def leave(*error: Any) -> bool | None:
        return await preparing.__aexit__(*error)

    async def enter() -> Path:
        return await preparing.__aenter__()

    with asyncio.Runner() as runner, ExitStack() as stack:
        path = runner.run(enter())
        stack.push(lambda *error: runner.run(leave(*error)))
        yield path


def place(out: Path | str, new: Node, *, force: bool) -> None:
    with prepared(str(out), force=force) as path:
        lay_out(new, path)


@every_new
def test_where_nothing_is(tmp_path: Path, system: None, new: Node) -> None:
    for force, name in ((False, "a"), (True, "b")):
        place(tmp_path / name, new, force=force)
        assert read_back(tmp_path / name) == new
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


@every_replacement
def test_replacing(tmp_path: Path, system: None, old: Node, new: Node) -> None:
    lay_out({"kept": File(b"kept")}, tmp_path / "elsewhere")
    lay_out(old, tmp_path / "out")
    place(tmp_path / "out", new, force=True)
    assert read_back(tmp_path / "out") == new
    assert read_back(tmp_path / "elsewhere") == {"kept": File(b"kept")}
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "out"]


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_file_does_not_replace_a_directory(tmp_path: Path, system: None, slash: str) -> None:
    lay_out(OLD["directory"], tmp_path / "out")
    with pytest.raises(CommandError, match="is a directory, and this is a file"):
        place(f"{tmp_path}/out{slash}", NEW_FILE, force=True)
    assert read_back(tmp_path) == {"out": OLD["directory"]}


def test_a_file_is_not_put_where_a_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="names a directory"):
        place(f"{tmp_path}/out/", NEW_FILE, force=False)
    assert os.listdir(tmp_path) == []
    place(f"{tmp_path}/out/", NEW_TREE, force=False)
    assert read_back(tmp_path) == {"out": NEW_TREE}


@every_old
def test_without_force_the_old_is_kept(tmp_path: Path, old: Node) -> None:
    lay_out(old, tmp_path / "out")
    with pytest.raises(CommandError, match="--force"):
        Target(str(tmp_path / "out"), force=False)
    assert read_back(tmp_path / "out") == old


@every_new
def test_what_appears_meanwhile_is_kept(tmp_path: Path, system: None, new: Node) -> None:
    out = tmp_path / "out"
    with (
        pytest.raises(CommandError, match="appeared meanwhile") as caught,
        prepared(str(out), force=False) as path,
    ):
        lay_out(new, path)
        out.write_bytes(b"somebody else's")
    assert caught.value.exit_code == 7
    assert out.read_bytes() == b"somebody else's"
    assert os.listdir(tmp_path) == ["out"]


def test_what_appears_meanwhile_is_looked_at_before_it_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with (
        pytest.raises(CommandError, match="neither file nor directory"),
        prepared(str(out), force=True) as path,
    ):
        path.write_bytes(b"new")
        os.mkfifo(out)
    assert os.listdir(tmp_path) == ["out"]
    assert not out.is_file()


@every_old
@every_new
def test_after_an_error_all_is_as_before(
    tmp_path: Path, system: None, old: Node, new: Node
) -> None:
    lay_out(old, tmp_path / "out")
    with (
        pytest.raises(ZeroDivisionError),
        prepared(str(tmp_path / "out"), force=True) as path,
    ):
        lay_out(new, path)
        raise ZeroDivisionError
    assert read_back(tmp_path) == {"out": old}


def test_a_replacement_in_two_steps_that_fails_puts_the_old_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(target_module, "_rename", lambda *_: False)
    lay_out(OLD["directory"], tmp_path / "out")
    real = os.rename
    calls: list[str] = []

    def failing(source: str, target: str, **directories: int) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise OSError(errno.EIO, "no luck")
        real(source, target, **directories)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OSError, match="no luck"):
        place(tmp_path / "out", NEW_TREE, force=True)
    monkeypatch.undo()
    assert read_back(tmp_path) == {"out": OLD["directory"]}


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "😀" * 63, ".", ""])
def test_the_temporary_name_is_never_too_long(tmp_path: Path, name: str) -> None:
    if name in (".", ""):
        with pytest.raises(CommandError):
            Target(os.path.join(tmp_path, name), force=False)
        return
    with prepared(str(tmp_path / name), force=False) as path:
        assert len(os.fsencode(path.name)) <= 255
        assert path.name.startswith(".")
        assert path.parent == tmp_path
        path.write_bytes(b"")
    assert os.listdir(tmp_path) == [name]


def test_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a")
    monkeypatch.chdir(tmp_path / "a" / "b")
    for out in (".", "..", tmp_path, tmp_path / "a", "/"):
        with pytest.raises(CommandError, match="not replaced"):
            Target(str(out), force=True)
    # The link is not what it leads to.
    Target(str(tmp_path / "link"), force=True)


def test_mount_points_are_read_as_the_kernel_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Path("/") in target_module._mount_points()
    (tmp_path / "out").mkdir()
    inside = tmp_path / "out" / "with space\\and more\n"
    monkeypatch.setattr(target_module, "_mount_points", lambda: [inside])
    with pytest.raises(CommandError, match="holds a mount point"):
        Target(str(tmp_path / "out"), force=True)
    monkeypatch.setattr(target_module, "_mount_points", lambda: [tmp_path / "out"])
    with pytest.raises(CommandError, match="is a mount point"):
        Target(str(tmp_path / "out"), force=True)
    escaped = rb"/with\040space\134and\011more\012"
    assert target_module._unescape(escaped) == b"/with space\\and\tmore\n"


# --- removing what was replaced ----------------------------------------------------------------


def test_a_tree_that_may_not_be_written_is_replaced(tmp_path: Path, system: None) -> None:
    out = tmp_path / "out"
    lay_out({"a": {"b": {"c": {"file": File(b"old")}}, "file": File(b"old")}}, out)
    # Not readable, not enterable, not writable: one inside the other.
    (out / "a" / "b" / "c").chmod(0o500)
    (out / "a" / "b").chmod(0)
    (out / "a").chmod(0o400)
    out.chmod(0o500)
    place(out, NEW_TREE, force=True)
    assert read_back(tmp_path) == {"out": NEW_TREE}


def test_what_cannot_be_removed_is_told_and_no_failure(
    tmp_path: Path,
    system: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def remove(parent: int, name: str) -> None:
        raise OSError(errno.EPERM, "not permitted", name)

    monkeypatch.setattr(target_module, "remove_at", remove)
    lay_out(OLD["directory"], tmp_path / "out\x1b")
    place(tmp_path / "out\x1b", NEW_TREE, force=True)
    assert read_back(tmp_path / "out\x1b") == NEW_TREE
    [remains] = [path for path in tmp_path.iterdir() if path.name != "out\x1b"]
    assert read_back(remains) == OLD["directory"]
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.strip().isprintable()
    assert remains.name.replace("\x1b", "\\x1b") in said


@pytest.mark.parametrize("fails", [False, True])
def test_an_interruption_while_something_is_removed_comes_too_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    begun, go = threading.Event(), threading.Event()

    def slowly(parent: int, name: str) -> None:
        begun.set()
        assert go.wait(60)
        remove_at(parent, name)

    async def replace() -> None:
        async with Target(str(tmp_path / "out"), force=True).prepare() as path:
            lay_out(NEW_TREE, path)
            if fails:
                raise ZeroDivisionError

    async def main() -> None:
        replacing = asyncio.create_task(replace())
        await asyncio.to_thread(begun.wait, 60)
        replacing.cancel()
        await asyncio.sleep(0)
        go.set()
        await replacing

    monkeypatch.setattr(target_module, "remove_at", slowly)
    lay_out(OLD["directory"], tmp_path / "out")
    if fails:
        with pytest.raises(ZeroDivisionError):
            asyncio.run(main())
    else:
        asyncio.run(main())
    assert read_back(tmp_path) == {"out": OLD["directory"] if fails else NEW_TREE}


def test_what_cannot_even_be_told_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(target_module, "remove_at", fail)
    lay_out(OLD["directory"], tmp_path / "out")
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", full)
        place(tmp_path / "out", NEW_TREE, force=True)
        patch.undo()
        with contextlib.suppress(OSError):
            full.close()
    assert read_back(tmp_path / "out") == NEW_TREE


def test_the_directory_around_out_may_get_another_name_meanwhile(
    tmp_path: Path, system: None
) -> None:
    """What was begun in it ends in it, and nowhere else."""
    lay_out({"out": OLD["directory"]}, tmp_path / "here")
    with prepared(str(tmp_path / "here" / "out"), force=True) as path:
        lay_out(NEW_TREE, path)
        (tmp_path / "here").rename(tmp_path / "there")
        (tmp_path / "here").mkdir()
        (tmp_path / "here" / "out").write_bytes(b"somebody else's")
    assert read_back(tmp_path) == {
        "here": {"out": File(b"somebody else's")},
        "there": {"out": NEW_TREE},
    }


def test_removing_that_fails_does_not_hide_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def remove(parent: int, name: str) -> None:
        raise OSError(errno.EPERM, "not permitted", name)

    monkeypatch.setattr(target_module, "remove_at", remove)
    with (
        pytest.raises(ZeroDivisionError),
        prepared(str(tmp_path / "out"), force=False) as path,
    ):
        path.write_bytes(b"new")
        raise ZeroDivisionError


# --- power cuts ---------------------------------------------------------------------------------


@every_replacement
def test_the_new_is_on_disk_before_the_old_goes(
    tmp_path: Path, system: None, monkeypatch: pytest.MonkeyPatch, old: Node, new: Node
) -> None:
    out = tmp_path / "out"
    lay_out(old, out)
    before = out.lstat().st_ino
    done: list[tuple[str, bool]] = []

    def note(name: str) -> None:
        real = getattr(target_module, name)

        def noting(parent: int, name: str, *rest: object) -> None:
            # Whether the old one still has its name.
            done.append((name, out.lstat().st_ino == before))
            real(parent, name, *rest)

        monkeypatch.setattr(target_module, name, noting)

    note("_sync")
    note("remove_at")
    place(out, new, force=True)
    (first, old_stands), (second, replaced), (third, _) = done
    assert first == third
    assert first.endswith(".kapla")
    assert old_stands
    assert (second, replaced) == (".", False)


def test_a_file_is_flushed_by_itself_and_a_tree_with_its_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda _: calls.append("fsync"))
    monkeypatch.setattr(target_module, "_syncfs", lambda _: calls.append("syncfs"))
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "link").symlink_to("file")
    parent = os.open(tmp_path, os.O_PATH)
    for name in ("file", "link", "."):
        target_module._flush(parent, name)
    os.close(parent)
    assert calls == ["fsync", "syncfs"]


def test_a_new_target_is_not_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_module, "_sync", None)
    place(tmp_path / "a", NEW_FILE, force=True)
    place(tmp_path / "b", NEW_TREE, force=False)
    assert read_back(tmp_path) == {"a": NEW_FILE, "b": NEW_TREE}


def test_a_disk_that_fails_while_flushing_leaves_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        @staticmethod
        def syncfs(_: int) -> int:
            ctypes.set_errno(errno.EIO)
            return -1

    lay_out(OLD["directory"], tmp_path / "out")
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Failing)
    with pytest.raises(OSError, match="Input/output error"):
        place(tmp_path / "out", NEW_TREE, force=True)
    assert read_back(tmp_path) == {"out": OLD["directory"]}
