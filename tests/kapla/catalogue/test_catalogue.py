"""The catalogue as a file: many processes, kills, damage, and whoever else could reach it."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from kapla.catalogue.catalogue import Catalogue, note
from kapla.catalogue.entries import Entry
from kapla.catalogue.errors import CatalogueUnusable
from kapla.catalogue.file import make_file, set_aside

STORE = "coap+unix:///run/x.sock"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kapla-client" / "catalogue.sqlite"


def an_entry(number: int, name: str | None = None, keep: int | None = None) -> Entry:
    root = number.to_bytes(32, "big")
    urn = f"urn:eris:{number}"
    return Entry(urn=urn, root=root, store=STORE, kind="file", size=number, name=name, keep=keep)


def filled(path: Path, entries: Iterable[Entry]) -> None:
    """A catalogue with many entries, noted in one transaction: that is faster."""
    make_file(path)
    with Catalogue.open(path) as catalogue, catalogue._writing():
        for entry in entries:
            catalogue._insert(replace(entry, keep=3))


def urns(path: Path) -> list[str]:
    with Catalogue.open(path) as catalogue:
        return [entry.urn.rpartition(":")[2] for entry in catalogue.newest_first()]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- entries ----------------------------------------------------------------------------------


def test_the_versions_of_a_name(path: Path) -> None:
    for number in (1, 2, 1):
        note(path, an_entry(number, "notes"))
    with Catalogue.open(path) as catalogue:
        assert [entry.size for entry in catalogue.versions("notes")] == [1, 2, 1]
        assert [entry.title for entry in catalogue.versions("notes")] == [
            *("notes", "notes~1", "notes~2")
        ]
        second = catalogue.find("notes", 1)
        assert second is not None and (second.size, second.version) == (2, 1)
        assert catalogue.find("notes", 3) is None
        assert catalogue.find("other") is None


def test_the_same_again_gets_a_new_time_only(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for now in (100.0, 200.0):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        note(path, an_entry(1))
        note(path, an_entry(2, "notes"))
    with Catalogue.open(path) as catalogue:
        found = list(catalogue.newest_first())
    assert [(entry.size, entry.stored) for entry in found] == [(2, 200), (1, 200)]


def test_an_entry_without_a_name_does_not_depend_on_a_name(path: Path) -> None:
    """It stays when the versions of that name go."""
    note(path, an_entry(1, "notes"))
    note(path, an_entry(1))
    assert urns(path) == ["1", "1"]


def test_how_many_versions_to_keep_is_remembered(path: Path) -> None:
    note(path, an_entry(1, "notes", keep=2))
    for number in (2, 3, 4):
        note(path, an_entry(number, "notes"))
    with Catalogue.open(path) as catalogue:
        assert [entry.size for entry in catalogue.surplus("notes")] == [1, 2]
        catalogue.note(an_entry(4, "notes", keep=3))
        assert [entry.size for entry in catalogue.surplus("notes")] == [1]
        assert catalogue.surplus("other") == []


def test_an_entry_of_the_same_blocks_is_known(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/run/x.sock")
    twin = Entry(
        urn="urn:eris:1b",
        root=an_entry(1).root,
        store=f"coap+unix://{tmp_path}/link",
        kind="file",
        size=0,
    )
    elsewhere = Entry(
        urn="urn:eris:1", root=an_entry(1).root, store="coap+tcp://h:5683", kind="file", size=0
    )
    for one in (an_entry(1), twin, elsewhere):
        note(path, one)
    with Catalogue.open(path) as catalogue:
        (first,) = [
            one for one in catalogue.with_urn("urn:eris:1", twin.root) if one.store == STORE
        ]
        assert catalogue.remove_if_shared(first)
        (second,) = catalogue.with_urn("urn:eris:1b", twin.root)
        assert not catalogue.remove_if_shared(second)
        catalogue.remove(second)
    assert urns(path) == ["1"]


def test_a_list_is_of_one_moment_and_holds_nobody_up(path: Path) -> None:
    filled(path, map(an_entry, range(600)))
    with Catalogue.open(path) as catalogue:
        listing = catalogue.newest_first()
        first = next(listing)
        assert first.size == 599
        note(path, an_entry(1000))
        with Catalogue.open(path) as other:
            other.remove(next(iter(other.with_urn("urn:eris:0", an_entry(0).root))))
        assert [entry.size for entry in listing] == [*range(598, 0, -1)]


def test_what_is_forgotten_is_not_in_the_file(path: Path) -> None:
    secret = "urn:eris:" + "SECRET" * 10
    entry = Entry(urn=secret, root=bytes(32), store=STORE, kind="file", size=0)
    note(path, entry)
    assert secret.encode() in path.read_bytes()
    with Catalogue.open(path) as catalogue:
        catalogue.remove(catalogue.with_urn(secret, bytes(32))[0])
    assert secret.encode() not in path.read_bytes()


def test_nothing_shows_a_urn_by_itself() -> None:
    assert "urn:" not in repr(an_entry(1)) and "x.sock" not in repr(an_entry(1))


# --- other processes --------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from tests.kapla.catalogue.test_catalogue import an_entry
from kapla.catalogue.catalogue import note
first, count = map(int, sys.argv[2:])
for number in range(first, first + count):
    note(Path(sys.argv[1]), an_entry(number))
    print(number, flush=True)
"""


def writer(path: Path, first: int, count: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, path, str(first), str(count)], stdout=subprocess.PIPE
    )


def test_many_processes_lose_nothing(path: Path) -> None:
    """None of them finds a catalogue at the start."""
    writers = [writer(path, first, 10) for first in (0, 100, 200)]
    for one in writers:
        one.communicate(timeout=60)
        assert one.returncode == 0
    expected = {str(first + number) for first in (0, 100, 200) for number in range(10)}
    found = urns(path)
    assert set(found) == expected and len(found) == 30


def test_what_was_noted_outlives_a_kill(path: Path) -> None:
    noted = -1
    for first in (0, 1000):
        with writer(path, first, 1000) as killed:
            assert killed.stdout is not None
            for _ in range(7):
                noted = int(killed.stdout.readline())
            killed.send_signal(signal.SIGKILL)
            killed.stdout.read()
        assert str(noted) in urns(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_what_a_kill_left_half_made_is_in_nobodys_way(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    path.with_name("catalogue.sqlite.new").write_bytes(b"half")
    path.with_name("catalogue.sqlite-journal").write_bytes(b"stale")
    note(path, an_entry(1))
    assert urns(path) == ["1"]


# --- damage -----------------------------------------------------------------------------------


def header_gone(data: bytes) -> bytes:
    return bytes(100) + data[100:]


def garbage_in_the_middle(data: bytes) -> bytes:
    return data[:8192] + b"\xff" * 4096 + data[12288:]


def cut_short(data: bytes) -> bytes:
    return data[: len(data) // 2]


def empty(data: bytes) -> bytes:
    return b""


def another(data: bytes) -> bytes:
    return b"this is a letter to my aunt" * 100


def schema_gone(data: bytes) -> bytes:
    return data[:100] + bytes(3996) + data[4096:]


@pytest.mark.parametrize(
    "damage", [header_gone, garbage_in_the_middle, cut_short, empty, another, schema_gone]
)
def test_a_damaged_catalogue_is_set_aside(path: Path, damage: Callable[[bytes], bytes]) -> None:
    filled(path, map(an_entry, range(40)))
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    aside = note(path, an_entry(1000))
    assert aside is not None and aside.parent == path.parent and mode(aside) == 0o600
    assert aside.read_bytes() == damaged
    assert "1000" in urns(path)
    assert note(path, an_entry(1001)) is None


def test_what_can_be_read_of_a_damaged_catalogue_is_kept(path: Path) -> None:
    filled(path, (an_entry(number, f"name {number}") for number in range(200)))
    with closing(sqlite3.connect(path)) as connection:
        (root,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'entries_by_name'"
        ).fetchone()
    with path.open("r+b") as file:
        file.seek((root - 1) * 4096)
        file.write(b"\xff" * 4096)
    assert note(path, an_entry(1000, "name 7")) is not None
    with Catalogue.open(path) as catalogue:
        assert len(list(catalogue.newest_first())) == 201
        assert [entry.size for entry in catalogue.versions("name 7")] == [1000, 7]


def test_a_sound_catalogue_is_not_set_aside(path: Path) -> None:
    note(path, an_entry(1))
    assert set_aside(path) is None
    assert urns(path) == ["1"]


def test_a_urn_with_a_wrong_letter_is_told(path: Path) -> None:
    note(path, an_entry(1, "notes"))
    data = path.read_bytes()
    path.write_bytes(data.replace(b"urn:eris:1", b"urn:eris:2"))
    with Catalogue.open(path) as catalogue:
        found = catalogue.find("notes")
        assert found is not None and not found.is_sound


def test_a_newer_catalogue_is_left_alone(path: Path) -> None:
    note(path, an_entry(1))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")
    before = path.read_bytes()
    with pytest.raises(CatalogueUnusable, match="newer Kapla"):
        note(path, an_entry(2))
    assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]


# --- a full disk --------------------------------------------------------------------------------


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own, which `fill` fills."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "kapla-test", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("cannot mount a small file system here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def test_a_disk_that_fills_loses_nothing(full_disk: Path) -> None:
    path = full_disk / "kapla-client" / "catalogue.sqlite"
    note(path, an_entry(1))
    filler = fill(full_disk)
    with pytest.raises(CatalogueUnusable, match="the disk is full"):
        for number in range(2, 200):
            note(path, an_entry(number))
    assert "1" in urns(path)
    filler.unlink()
    note(path, an_entry(1000))
    assert urns(path)[0] == "1000"


def test_a_disk_that_is_full_has_no_half_a_catalogue(full_disk: Path) -> None:
    path = full_disk / "kapla-client" / "catalogue.sqlite"
    filler = fill(full_disk)
    with pytest.raises(CatalogueUnusable):
        note(path, an_entry(1))
    assert not path.exists()
    filler.unlink()
    note(path, an_entry(1))
    assert os.listdir(path.parent) == [path.name]


# --- who can reach it -------------------------------------------------------------------------


def test_it_is_for_its_owner_alone(path: Path) -> None:
    before = os.umask(0)
    try:
        note(path, an_entry(1))
    finally:
        os.umask(before)
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)


def test_what_others_can_read_is_closed_to_them(path: Path) -> None:
    note(path, an_entry(1))
    path.chmod(0o644)
    path.parent.chmod(0o755)
    assert urns(path) == ["1"]
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)


def test_directories_above_it_are_made_for_the_owner_alone(path: Path) -> None:
    deep = path.parent / "share" / "client" / "catalogue.sqlite"
    note(deep, an_entry(1))
    assert mode(path.parent) == mode(deep.parent.parent) == 0o700


def test_a_directory_that_others_can_write_to_is_not_used(path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o777)
    with pytest.raises(CatalogueUnusable, match="by others"):
        note(path, an_entry(1))
    assert os.listdir(path.parent) == []


def test_symlinks_are_not_followed(path: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    path.parent.mkdir(mode=0o700)
    path.symlink_to(victim)
    with pytest.raises(CatalogueUnusable, match="symlink"):
        note(path, an_entry(1))
    path.unlink()
    path.parent.rmdir()
    path.parent.symlink_to(tmp_path)
    with pytest.raises(CatalogueUnusable, match="symlink"):
        note(path, an_entry(1))
    assert victim.read_bytes() == b"mine"
    assert not (tmp_path / path.name).exists()


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_not_opened(path: Path, make: Callable[[Path], None]) -> None:
    path.parent.mkdir(mode=0o700)
    make(path)
    with pytest.raises(CatalogueUnusable, match="not a file"):
        note(path, an_entry(1))


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory to somebody else")
def test_root_leaves_a_users_home_alone(path: Path) -> None:
    path.parent.mkdir()
    os.chown(path.parent, 1000, 1000)
    with pytest.raises(CatalogueUnusable, match="somebody else"):
        note(path, an_entry(1))
    with pytest.raises(CatalogueUnusable, match="somebody else"):
        note(path.parent / "share" / path.name, an_entry(1))
    assert os.listdir(path.parent) == []
