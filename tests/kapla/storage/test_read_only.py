"""By which name SQLite opens a store that is only read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kapla.errors import StorageError
from kapla.storage.sqlite.read_only import uri_to_read


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "a store?mode=rwc.sqlite"
    path.write_bytes(b"x")
    return path


@pytest.fixture
def forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody may write anything, whoever runs the tests."""
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and access(path, mode))


def test_where_all_may_be_written_nothing_is_left_behind(store: Path) -> None:
    uri = uri_to_read(store)
    assert uri.endswith("a%20store%3Fmode%3Drwc.sqlite?mode=rw")


def test_through_a_symlink_the_file_itself_is_opened(store: Path) -> None:
    link = store.with_name("link")
    link.symlink_to(store)
    assert uri_to_read(link) == uri_to_read(store)


@pytest.mark.usefixtures("forbidden")
def test_what_may_only_be_read_is_read_while_a_writer_has_it_open(store: Path) -> None:
    with pytest.raises(StorageError, match="read a copy"):
        uri_to_read(store)
    for end in ("-wal", "-shm"):
        store.with_name(store.name + end).touch()
    assert uri_to_read(store).endswith("?mode=ro")


@pytest.mark.usefixtures("forbidden")
def test_what_nobody_can_write_does_not_change(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_only = os.statvfs_result((1, 1, 1, 1, 1, 1, 1, 1, os.ST_RDONLY, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: read_only)
    assert uri_to_read(store).endswith("?mode=ro&immutable=1")
    # What is only in the WAL would be passed over.
    store.with_name(store.name + "-wal").write_bytes(b"x")
    with pytest.raises(StorageError, match="read a copy"):
        uri_to_read(store)


def test_what_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such file"):
        uri_to_read(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []
