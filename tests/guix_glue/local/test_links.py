"""Deduplication: which files share an inode afterwards, and that nothing can break it."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from guix_glue.formats import nixbase32
from guix_glue.formats.nar import Data, Directory, File, NarEvent, NarWriter, Symlink
from guix_glue.local.links import Links
from guix_glue.local.restore import ItemRestorer

LARGE = bytes(range(256)) * 40 + b"odd"  # 10243 bytes: the nar pads it


class Store:
    """A directory of items with links."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.links = directory / ".links"

    def restore(self, name: str, *events: NarEvent) -> Path:
        restorer = ItemRestorer(str(self.directory / name), links=Links(str(self.links)))
        try:
            restorer.write(events)
            restorer.finish()
        finally:
            restorer.close()
        return self.directory / name

    def restore_file(self, name: str, content: bytes, *, executable: bool = False) -> Path:
        pieces = [Data(content[start : start + 999]) for start in range(0, len(content), 999)]
        return self.restore(name, File((), len(content), executable), *pieces)

    def link_of(self, content: bytes, *, executable: bool = False) -> Path:
        writer = NarWriter()
        nar = writer.write(File((), len(content), executable))
        nar += writer.write(Data(content)) + writer.finish()
        return self.links / nixbase32.encode(hashlib.sha256(nar).digest())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / ".links").mkdir()
    return Store(tmp_path)


def test_the_first_file_becomes_the_link_and_others_become_it(store: Store) -> None:
    first = store.restore_file("first", LARGE)
    link = store.link_of(LARGE)
    assert os.path.samefile(first, link)
    second = store.restore(
        "second",
        Directory(()),
        File((b"a",), len(LARGE), False),
        Data(LARGE),
        File((b"b",), len(LARGE), False),
        Data(LARGE),
    )
    assert os.listdir(second) == ["a", "b"] or os.listdir(second) == ["b", "a"]
    assert {path.stat().st_ino for path in second.iterdir()} == {link.stat().st_ino}
    assert link.stat().st_nlink == 4
    assert (second / "a").read_bytes() == LARGE
    assert stat.S_IMODE(link.stat().st_mode) == 0o444
    assert [path.stat().st_mtime_ns for path in (link, second, second / "b")] == [10**9] * 3


def test_nothing_is_linked_before_the_item_is_known_to_be_right(store: Store) -> None:
    restorer = ItemRestorer(str(store.directory / "item"), links=Links(str(store.links)))
    try:
        restorer.write([Directory(()), File((b"a",), len(LARGE), False), Data(LARGE)])
        restorer.write([File((b"b",), len(LARGE), False), Data(LARGE)])
    finally:
        restorer.close()
    assert os.listdir(store.links) == []


def test_directories_keep_their_form(store: Store) -> None:
    store.directory.chmod(0o755)
    first = store.restore_file("first", LARGE)
    deep = (b"a", b"b", b"c")
    item = store.restore(
        "item",
        Directory(()),
        *(Directory(deep[:depth]) for depth in (1, 2, 3)),
        File((*deep, b"x"), len(LARGE), False),
        Data(LARGE),
        Symlink((b"a", b"b", b"link"), b"c"),
        File((b"a", b"y"), len(LARGE), False),
        Data(LARGE),
    )
    for path in (item / "a/b/c/x", item / "a/y"):
        assert path.samefile(first)
    for directory in (item, item / "a", item / "a/b", item / "a/b/c"):
        status = directory.stat()
        assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o555, 10**9)
    # The directory of all items is not ours.
    assert stat.S_IMODE(store.directory.stat().st_mode) == 0o755


def test_the_executable_bit_counts(store: Store) -> None:
    plain = store.restore_file("plain", LARGE)
    program = store.restore_file("program", LARGE, executable=True)
    assert not os.path.samefile(plain, program)
    assert os.path.samefile(program, store.link_of(LARGE, executable=True))


@pytest.mark.parametrize(("size", "linked"), [(8191, 1), (8192, 2)])
def test_small_files_are_not_linked(store: Store, size: int, linked: int) -> None:
    assert store.restore_file("item", b"x" * size).stat().st_nlink == linked


def test_sparse_files_are_linked_as_well(store: Store) -> None:
    content = bytes(1_000_000)
    first, second = (store.restore_file(name, content) for name in ("first", "second"))
    assert os.path.samefile(first, second)
    assert second.stat().st_size == len(content)


def test_without_links_nothing_is_linked(tmp_path: Path) -> None:
    assert Store(tmp_path).restore_file("item", LARGE).stat().st_nlink == 1
    assert os.listdir(tmp_path) == ["item"]


def test_a_directory_of_links_that_is_a_symlink_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".links").symlink_to("elsewhere")
    assert Store(tmp_path).restore_file("item", LARGE).stat().st_nlink == 1
    assert os.listdir(tmp_path / "elsewhere") == []


def test_a_link_that_is_something_else_is_not_used(store: Store) -> None:
    link = store.link_of(LARGE)
    secret = store.directory / "secret"
    secret.write_bytes(LARGE)
    secret.chmod(0o444)
    link.symlink_to(secret)
    assert store.restore_file("behind a symlink", LARGE).stat().st_nlink == 1
    assert link.is_symlink()
    link.unlink()
    link.mkdir()
    assert store.restore_file("a directory", LARGE).read_bytes() == LARGE
    link.rmdir()
    link.write_bytes(LARGE)
    link.chmod(0o644)
    assert store.restore_file("another mode", LARGE).stat().st_nlink == 1
    link.write_bytes(b"short")
    link.chmod(0o444)
    assert store.restore_file("another size", LARGE).read_bytes() == LARGE


def test_no_more_links_than_the_file_system_allows(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.restore_file("first", LARGE)
    for number in ("EMLINK", "ENOSPC", "EPERM", "EXDEV", "EEXIST"):

        def refuse(*_: object, code: str = number, **__: object) -> None:
            raise OSError(getattr(__import__("errno"), code), "refused")

        with monkeypatch.context() as patch:
            patch.setattr(os, "link", refuse)
            second = store.restore_file(number, LARGE)
            third = store.restore_file(f"new-{number}", LARGE + number.encode())
        assert second.read_bytes() == LARGE
        assert second.stat().st_nlink == third.stat().st_nlink == 1


def test_a_failed_rename_leaves_no_temporary_link(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.restore_file("first", LARGE)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(5, "refused")

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(OSError, match="refused"):
        store.restore_file("second", LARGE)
    assert sorted(os.listdir(store.directory)) == [".links", "first", "second"]
