"""What a lock file says of who holds the lock."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kapla.errors import StorageError
from kapla.storage.sqlite.holder import Holder, note_holder, read_holder
from kapla.storage.sqlite.lock import InUse, lock_store, locked


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "another program"),
        (b"\xff\0\n" * 5000, "another program"),
        (b"pid 7\nprogram kapla\n", "kapla (pid 7)"),
        (b"pid 7\nprogram kaplad\nsocket /a b\n", "kaplad (pid 7) at the socket /a b"),
        (b"pid -7\nprogram a\x1b[1mb\npid 8", "another program"),
        ("pid ²\nprogram x".encode(), "x"),
        (b"pid 99999999999999999999", "another program"),
    ],
)
def test_what_stands_there_is_said_as_far_as_it_can_be_read(
    tmp_path: Path, text: bytes, said: str
) -> None:
    file = tmp_path / "lock"
    file.write_bytes(text)
    lock = os.open(file, os.O_RDWR)
    try:
        assert str(read_holder(lock)) == said
    finally:
        os.close(lock)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    try:
        note_holder(lock, Holder(1, "a program of a long name", "/a/socket"))
        holder = Holder.myself("kaplad")
        note_holder(lock, holder)
        assert read_holder(lock) == holder
        # What would be a line of its own is left out.
        note_holder(lock, Holder(1, "kaplad", "/a\nb"))
        assert read_holder(lock) == Holder(1, "kaplad", None)
    finally:
        os.close(lock)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can lock out others")
def test_root_does_not_lock_out_whose_store_it_is(tmp_path: Path) -> None:
    store = tmp_path / "blocks.sqlite"
    store.touch()
    os.chown(store, 1234, 1234)
    os.close(lock_store(store))
    assert store.with_name("blocks.sqlite.lock").stat().st_uid == 1234


def test_who_has_a_store_is_told_to_others(tmp_path: Path) -> None:
    store = tmp_path / "blocks.sqlite"
    store.touch()
    held = lock_store(store, Holder.myself("kaplad", "/s"))
    try:
        with pytest.raises(InUse, match=rf"another daemon .*pid {os.getpid()}.* socket /s"):
            lock_store(store)
        in_use = r"kaplad .* is using the store .*stop it first"
        with pytest.raises(StorageError, match=in_use), locked(store):
            pass
    finally:
        os.close(held)
