"""Scanning: what is found, in which order, and what is refused by name."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given

from eris_fs import (
    EmptyDirectory,
    FileChanged,
    Limits,
    OpenFile,
    Symlink,
    TreeSize,
    TreeTooLarge,
    UnsupportedEntry,
    measure_tree,
    scan_tree,
)
from eris_fs.scan import FileFacts, look_through_tree
from tests.descriptors import descriptors, left_open
from tests.eris_fs.trees import File, Link, Node, directories, lay_out

Seen = dict[tuple[str, ...], File | Symlink | EmptyDirectory]


def look(root: Path) -> Seen:
    """Scan a tree and read all of it."""
    seen: Seen = {}
    for path, found in scan_tree(root):
        assert path not in seen
        if isinstance(found, OpenFile):
            with found:
                seen[path] = File(found.read_all(), found.executable)
        else:
            seen[path] = found
    return seen


def flatten(node: Node, path: tuple[str, ...] = ()) -> Seen:
    """Say what a scan should see."""
    match node:
        case File():
            return {path: node}
        case Link(target):
            return {path: Symlink(target)}
        case dict():
            if not node and path:
                return {path: EmptyDirectory()}
            return {
                key: entry
                for name, inner in node.items()
                for key, entry in flatten(inner, (*path, name)).items()
            }


@contextmanager
def unprivileged() -> Iterator[Path]:
    """Be somebody whom permissions bind, in a directory of one's own."""
    directory = Path(tempfile.mkdtemp())
    as_root = os.geteuid() == 0
    try:
        if as_root:
            os.chown(directory, 65534, 65534)
            try:
                os.seteuid(65534)
            except PermissionError:
                pytest.skip("cannot give up root's rights here")
        yield directory
    finally:
        if as_root:
            os.seteuid(0)
        shutil.rmtree(directory)


@given(directories)
def test_all_is_seen(node: Node) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory, "root")
        lay_out(node, root)
        before = descriptors()
        assert look(root) == flatten(node)
        assert dict(look_through_tree(root)) == {
            path: FileFacts(len(found.content), found.executable)
            if isinstance(found, File)
            else found
            for path, found in flatten(node).items()
        }
        assert not left_open(before)


def test_files_that_nobody_opens_may_be_unreadable() -> None:
    with unprivileged() as directory:
        lay_out({"sub": {"secret": File(b"x")}}, directory / "root")
        (directory / "root" / "sub" / "secret").chmod(0)
        assert dict(look_through_tree(directory / "root")) == {
            ("sub", "secret"): FileFacts(1, False)
        }


def test_the_order_is_that_of_names(tmp_path: Path) -> None:
    lay_out({"b": {"z": File(b""), "a": File(b"")}, "c": Link("b"), "a": {}}, tmp_path / "root")
    assert list(look(tmp_path / "root")) == [("a",), ("b", "a"), ("b", "z"), ("c",)]


def test_a_root_that_is_a_file_or_a_symlink(tmp_path: Path) -> None:
    lay_out(File(b"content", executable=True), tmp_path / "file")
    lay_out(Link("file"), tmp_path / "link")
    lay_out(Link("/nowhere"), tmp_path / "dangling")
    assert look(tmp_path / "file") == {(): File(b"content", executable=True)}
    assert look(tmp_path / "link") == {(): Symlink("file")}
    assert look(tmp_path / "dangling") == {(): Symlink("/nowhere")}


def test_symlinks_are_not_followed(tmp_path: Path) -> None:
    lay_out({"inside": File(b"")}, tmp_path / "outside")
    lay_out({"link": Link("../outside")}, tmp_path / "root")
    assert look(tmp_path / "root") == {("link",): Symlink("../outside")}


def test_executable_means_the_owner(tmp_path: Path) -> None:
    for mode, executable in ((0o700, True), (0o655, False), (0o100, True), (0o600, False)):
        file = tmp_path / f"{mode:o}"
        file.touch()
        file.chmod(mode)
        _, found = next(scan_tree(file))
        assert isinstance(found, OpenFile)
        with found:
            assert found.executable is executable


def test_hard_links_are_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    os.link(tmp_path / "a", tmp_path / "b")
    assert look(tmp_path) == {("a",): File(b"x"), ("b",): File(b"x")}


def test_measuring(tmp_path: Path) -> None:
    lay_out({"a": File(b"123"), "b": {"c": File(b"4567"), "d": Link("a")}}, tmp_path / "root")
    assert measure_tree(tmp_path / "root") == TreeSize(2, 7)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        look(tmp_path / "missing")


def refuses(root: Path, named: str, reason: str) -> None:
    """Check that a scan refuses a file, and says which and why."""
    before = descriptors()
    with pytest.raises(UnsupportedEntry, match=reason) as caught:
        look(root)
    assert named in str(caught.value)
    assert str(caught.value).isprintable()
    assert not left_open(before)


def test_named_pipes(tmp_path: Path) -> None:
    lay_out({"a": File(b""), "deep": {}}, tmp_path / "root")
    pipe = tmp_path / "root" / "deep" / "pipe"
    os.mkfifo(pipe)
    refuses(tmp_path / "root", str(pipe), "named pipe")
    refuses(pipe, str(pipe), "named pipe")


def test_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as directory:
        monkeypatch.chdir(directory)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket")
            refuses(Path(directory), "socket", "is a socket")


def test_devices() -> None:
    refuses(Path("/dev/null"), "/dev/null", "character device")


@pytest.mark.parametrize("name", [b"caf\xe9", b"\x1b[31m\xff"])
def test_names_that_are_not_utf8(tmp_path: Path, name: bytes) -> None:
    (tmp_path / "sub").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path / "sub") + b"/" + name)).touch()
    refuses(tmp_path, r"\xe9" if name.endswith(b"\xe9") else r"\x1b[31m\xff", "not UTF-8")


def test_targets_that_are_not_utf8(tmp_path: Path) -> None:
    os.symlink(b"\xff", os.fsencode(tmp_path) + b"/link")
    refuses(tmp_path, "link", "target is not UTF-8")


def test_unreadable_files() -> None:
    with unprivileged() as directory:
        lay_out({"sub": {"secret": File(b"x")}}, directory / "root")
        (directory / "root" / "sub" / "secret").chmod(0)
        refuses(directory / "root", "root/sub/secret", "cannot be read: Permission denied")


def test_unreadable_directories() -> None:
    with unprivileged() as directory:
        lay_out({"a": File(b""), "sub": {"file": File(b"x")}}, directory / "root")
        (directory / "root" / "sub").chmod(0)
        try:
            refuses(directory / "root", "root/sub", "cannot be read: Permission denied")
        finally:
            (directory / "root" / "sub").chmod(0o700)


def test_limits(tmp_path: Path) -> None:
    lay_out({"a": {"b": {"c": File(b"")}}, "d": {}}, tmp_path / "root")
    assert len(list(scan_tree(tmp_path / "root", Limits(entries=4, depth=3, path_size=5)))) == 2
    with pytest.raises(TreeTooLarge):
        list(scan_tree(tmp_path / "root", Limits(entries=3)))
    with pytest.raises(UnsupportedEntry, match="more than 2 components"):
        list(scan_tree(tmp_path / "root", Limits(depth=2)))
    with pytest.raises(UnsupportedEntry, match="more than 4 bytes"):
        list(scan_tree(tmp_path / "root", Limits(path_size=4)))


def opened(path: Path) -> OpenFile:
    """Open a file as a scan does."""
    _, found = next(scan_tree(path))
    assert isinstance(found, OpenFile)
    return found


def in_one_go(file: OpenFile) -> bytes:
    """Read as small files are."""
    return file.read_all()


def in_steps(file: OpenFile) -> bytes:
    """Read as large files are."""
    return b"".join(iter(lambda: file.read(3), b""))


Reader = Callable[[OpenFile], bytes]
readers = pytest.mark.parametrize("read", [in_one_go, in_steps])


@readers
@pytest.mark.parametrize("size", [0, 1, 3, 4, 3000])
def test_reading(tmp_path: Path, read: Reader, size: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * size)
    with opened(file) as found:
        assert found.size == size
        assert read(found) == b"x" * size
    assert found.closed


@readers
@pytest.mark.parametrize("size", [0, 1, 3, 4, 3000])
def test_a_growing_file(tmp_path: Path, read: Reader, size: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * size)
    with opened(file) as found:
        with file.open("ab") as writer:
            writer.write(b"y")
        with pytest.raises(FileChanged, match="grew") as caught:
            read(found)
    assert caught.value.path == str(file)


@readers
@pytest.mark.parametrize("size", [1, 3, 4, 3000])
def test_a_shrinking_file(tmp_path: Path, read: Reader, size: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * size)
    with opened(file) as found:
        os.truncate(file, size // 2)
        with pytest.raises(FileChanged, match=f"had {size} bytes and has {size // 2}"):
            read(found)


@readers
def test_a_file_that_is_written_over(tmp_path: Path, read: Reader) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one")
    with opened(file) as found:
        file.write_bytes(b"two")
        os.utime(file, ns=(0, 0))
        with pytest.raises(FileChanged, match="time of modification"):
            read(found)


@readers
@pytest.mark.parametrize("put_back", [True, False], ids=["mtime put back", "mtime another"])
def test_a_file_that_is_written_over_with_as_much(
    tmp_path: Path, read: Reader, put_back: bool
) -> None:
    """Also at once after it was made, within the same tick of the clock."""
    file = tmp_path / "file"
    for round_ in range(5):
        file.write_bytes(b"one")
        os.utime(file, ns=(round_, round_))
        with opened(file) as found:
            file.write_bytes(b"two")
            if put_back:
                os.utime(file, ns=(round_, round_))
            with pytest.raises(FileChanged, match="time of"):
                read(found)


@readers
def test_what_happens_before_reading_does_not_matter(tmp_path: Path, read: Reader) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one")
    before = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.link(file, tmp_path / "other")
    file.chmod(0o600)
    with opened(file) as found:
        assert read(found) == b"two"


@readers
def test_reading_by_somebody_else_does_not_matter(tmp_path: Path, read: Reader) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one")
    os.utime(file, ns=(0, 0))
    with opened(file) as found:
        file.read_bytes()
        assert read(found) == b"one"


@readers
@pytest.mark.parametrize(
    "change", [lambda file: file.chmod(0o700), lambda file: os.link(file, f"{file}2")]
)
def test_what_might_be_a_change_is_taken_for_one(
    tmp_path: Path, read: Reader, change: Callable[[Path], None]
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one")
    with opened(file) as found:
        change(file)
        with pytest.raises(FileChanged, match="linked or given another mode"):
            read(found)


def test_a_clock_that_is_wrong_delays_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"one")
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    for clock in (0, 2**62):
        monkeypatch.setattr(time, "clock_gettime_ns", lambda _, clock=clock: clock)
        with opened(tmp_path / "file") as found:
            assert found.read_all() == b"one"
    assert slept == []


def test_a_file_that_vanishes(tmp_path: Path) -> None:
    lay_out({"a": File(b""), "b": File(b"")}, tmp_path / "root")
    before = descriptors()
    with closing(scan_tree(tmp_path / "root")) as found:
        _, first = next(found)
        assert isinstance(first, OpenFile)
        first.close()
        (tmp_path / "root" / "b").unlink()
        with pytest.raises(FileChanged, match="vanished"):
            next(found)
    assert not left_open(before)


@pytest.mark.parametrize("kind", ["file", "symlink", "directory"])
def test_what_is_replaced_by_a_symlink_is_not_followed(tmp_path: Path, kind: str) -> None:
    node: dict[str, Node] = {"file": File(b""), "symlink": Link("x"), "directory": {}}
    lay_out({"a": File(b""), "b": node[kind]}, tmp_path / "root")
    lay_out({"secret": File(b"")}, tmp_path / "outside")
    with closing(scan_tree(tmp_path / "root")) as found:
        _, first = next(found)
        assert isinstance(first, OpenFile)
        first.close()
        (tmp_path / "root" / "b").rename(tmp_path / "away")
        if kind == "symlink":
            (tmp_path / "root" / "b").touch()
        else:
            inside = "secret" if kind == "file" else ""
            (tmp_path / "root" / "b").symlink_to(tmp_path / "outside" / inside)
        with pytest.raises(FileChanged, match=r"replaced|another kind"):
            next(found)
