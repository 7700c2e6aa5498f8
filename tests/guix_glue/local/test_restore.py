"""The restorer, on real directories: what it makes, and what it refuses."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from guix_glue.errors import FetchFailed
from guix_glue.formats.nar import Data, Directory, File, NarEvent, Symlink
from guix_glue.local.archive import read_item
from guix_glue.local.restore import ItemRestorer, remove_item
from tests.descriptors import descriptors, left_open

_HOLE = 16 * 1024

ODD: list[NarEvent] = [
    Directory(()),
    Directory((b"bin",)),
    File((b"bin", b"run"), 5, True),
    Data(b"he"),
    Data(memoryview(b"llo")),
    Symlink((b"bin", b"up"), b"../../.."),
    Directory((b"deep",)),
    Directory((b"deep", b"deeper")),
    Directory((b"deep", b"deeper", b"deepest")),
    Directory((b"empty",)),
    File((b"nothing",), 0, True),
    Symlink((b"z",), b"bin"),
    File((b"\xff not UTF-8",), 3, False),
    Data(b"abc"),
]


def restore(target: Path, events: Iterable[NarEvent]) -> None:
    restorer = ItemRestorer(str(target))
    try:
        restorer.write(events)
        restorer.finish()
    finally:
        restorer.close()


def joined(events: Iterable[NarEvent]) -> list[NarEvent]:
    """The same events, each file's content in one piece."""
    result: list[NarEvent] = []
    for event in events:
        if isinstance(event, Data) and result and isinstance(result[-1], Data):
            result[-1] = Data(bytes(result[-1].content) + bytes(event.content))
        else:
            result.append(Data(bytes(event.content)) if isinstance(event, Data) else event)
    return result


def everything(target: Path) -> Iterator[Path]:
    yield target
    if target.is_dir() and not target.is_symlink():
        for path in target.iterdir():
            yield from everything(path)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("mask", [0, 0o022, 0o077])
def test_an_item_is_in_canonical_form_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    target = tmp_path / "item"
    with umask(mask):
        restore(target, ODD)
    for path in everything(target):
        found = path.lstat()
        assert (found.st_mtime_ns, path) == (10**9, path)
        if stat.S_ISREG(found.st_mode):
            executable = path.name in ("run", "nothing")
            assert stat.S_IMODE(found.st_mode) == (0o555 if executable else 0o444)
        elif stat.S_ISDIR(found.st_mode):
            assert stat.S_IMODE(found.st_mode) == 0o555
    assert joined(read_item(str(target))) == joined(ODD)


@pytest.mark.parametrize(
    "events",
    [
        [File((), 3, False), Data(b"abc")],
        [File((), 0, True)],
        [Symlink((), b"/nowhere")],
        [Directory(())],
    ],
)
def test_an_item_may_be_anything(tmp_path: Path, events: list[NarEvent]) -> None:
    target = tmp_path / "item"
    restore(target, events)
    assert target.lstat().st_mtime_ns == 10**9
    assert joined(read_item(str(target))) == events


def test_events_may_come_in_any_portions(tmp_path: Path) -> None:
    restorer = ItemRestorer(str(tmp_path / "item"))
    for event in ODD:
        restorer.write([event])
    restorer.finish()
    restorer.close()
    restorer.close()
    assert joined(read_item(str(tmp_path / "item"))) == joined(ODD)


# A hole is only seen if it lies in one piece: the smaller they are, the more is lost.
@pytest.mark.parametrize(("step", "most"), [(_HOLE, 80_000), (100_001, 700_000), (1000, 4_000_000)])
def test_zeroes_become_holes(tmp_path: Path, step: int, most: int) -> None:
    text = b"x" * 5000 + bytes(1_000_000) + b"y" + bytes(500_000 - 1) + b"z" * 3000
    content = text + bytes(2_000_000)
    pieces = [Data(content[start : start + step]) for start in range(0, len(content), step)]
    target = tmp_path / "item"
    restore(target, [File((), len(content), False), *pieces])
    assert target.read_bytes() == content
    assert target.stat().st_blocks * 512 < most


@pytest.mark.parametrize(
    "event", [Directory(()), File((), 1, False), Symlink((), b"x")], ids=["1", "2", "3"]
)
def test_it_tells_what_it_made(tmp_path: Path, event: NarEvent) -> None:
    target = tmp_path / "item"
    for there in (False, True):
        restorer = ItemRestorer(str(target))
        assert not restorer.created
        if there:
            with pytest.raises(FileExistsError):
                restorer.write([event])
        else:
            restorer.write([event])
        assert restorer.created is not there
        restorer.close()


def test_a_target_that_is_there_is_left_alone(tmp_path: Path) -> None:
    for name, events in (("one", [Directory(())]), ("two", [Symlink((), b"x")])):
        (tmp_path / name).symlink_to("elsewhere")
        with pytest.raises(FileExistsError):
            restore(tmp_path / name, events)
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(FileExistsError):
        restore(file, [File((), 1, False), Data(b"x")])
    assert file.read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["file", "one", "two"]


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/etc", b"a\0b", b"../escaped"])
def test_hostile_names_are_refused(tmp_path: Path, name: bytes) -> None:
    hostile: list[NarEvent] = [File((name,), 0, False), Directory((name,)), Symlink((name,), b"x")]
    for number, event in enumerate(hostile):
        with pytest.raises(FetchFailed):
            restore(tmp_path / str(number), [Directory(()), event])
        assert os.listdir(tmp_path / str(number)) == []


@pytest.mark.parametrize(
    "events",
    [
        # Through a symlink, through a file, below what was never there.
        [Directory(()), Symlink((b"a",), b".."), File((b"a", b"escaped"), 0, False)],
        [Directory(()), File((b"a",), 0, False), File((b"a", b"escaped"), 0, False)],
        [Directory(()), File((b"a", b"b"), 0, False)],
        [Symlink((), b"."), File((b"escaped",), 0, False)],
        [File((b"escaped",), 0, False)],
        [Directory(()), Directory((b"..", b"escaped"))],
        # Back into a directory that was left.
        [Directory(()), Directory((b"a",)), Directory((b"b",)), File((b"a", b"x"), 0, False)],
        # Twice.
        [Directory(()), Directory(())],
        [Directory(()), File((b"a",), 0, False), File((b"a",), 0, False)],
        [Directory(()), Symlink((b"a",), b"/etc"), Directory((b"a",))],
        [Directory(()), Directory((b"a",)), Symlink((b"a",), b"/etc")],
        # Contents of another length.
        [Directory(()), Data(b"x")],
        [File((), 1, False), Data(b"xy")],
        [File((), 0, False), Data(b"x")],
        [File((), 2, False), Data(b"x")],
        [Directory(()), File((b"a",), 1, False), File((b"b",), 0, False)],
        [Directory(()), File((b"a",), 1, False), Symlink((b"b",), b"x")],
        [Directory(()), File((b"a",), 1, False), Directory((b"b",))],
        # Nothing, and links to nothing.
        [],
        [Symlink((), b"")],
        [Symlink((), b"a\0b")],
    ],
)
def test_hostile_events_are_refused(tmp_path: Path, events: list[NarEvent]) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    before = descriptors()
    with pytest.raises(FetchFailed):
        restore(inner / "item", events)
    assert not left_open(before)
    assert os.listdir(tmp_path) == ["inner"]
    assert set(os.listdir(inner)) <= {"item"}
    remove_item(str(inner / "item"))
    assert os.listdir(inner) == []


def test_what_the_file_system_cannot_hold_is_its_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="name too long"):
        restore(tmp_path / "item", [Directory(()), File((b"x" * 300,), 0, False)])
    with pytest.raises(FileNotFoundError):
        restore(tmp_path / "missing" / "item", [Directory(())])


@pytest.mark.parametrize("name", ["", "..", "item/.", "item/"])
def test_a_target_needs_a_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not the name of an item"):
        ItemRestorer(f"{tmp_path}/{name}")


def test_leftovers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    target = tmp_path / "item"
    restore(target, [*ODD, Symlink((b"\xff\xff",), os.fsencode(outside))])
    mode = outside.stat().st_mode
    remove_item(str(target))
    remove_item(str(target))
    assert os.listdir(tmp_path) == ["outside"]
    (tmp_path / "link").symlink_to(outside)
    remove_item(str(tmp_path / "link"))
    assert os.listdir(tmp_path) == ["outside"]
    assert (outside / "kept").read_text() == "kept"
    assert outside.stat().st_mode == mode


def test_leftovers_of_an_item_that_was_never_finished_are_removed(tmp_path: Path) -> None:
    restorer = ItemRestorer(str(tmp_path / "item"))
    restorer.write([Directory(()), Directory((b"a",)), File((b"a", b"b"), 5, False), Data(b"ab")])
    restorer.close()
    remove_item(str(tmp_path / "item"))
    assert os.listdir(tmp_path) == []
    file = tmp_path / "file"
    file.write_text("x")
    remove_item(str(file))
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_those_who_are_not_root_can_remove_read_only_directories(tmp_path: Path) -> None:
    target = tmp_path / "item"
    tmp_path.chmod(0o777)
    # The directories above belong to root, and may be closed to others; this one is held open.
    here = os.open(tmp_path, os.O_RDONLY)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.fchdir(here)
            os.setresuid(65534, 65534, 65534)
            restore(Path("item"), ODD)
            remove_item("item")
            status = 0
        finally:
            os._exit(status)
    os.close(here)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not target.exists()
