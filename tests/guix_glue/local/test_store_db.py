"""The store's database, made as Guix lays it out, with and without a write-ahead log."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from guix_glue.errors import DatabaseError, ProtocolError
from guix_glue.local.store_db import StoreDatabase
from tests.guix_glue.local.databases import PATHS, STORE_DIR, connect, make_database
from tests.guix_glue.local.session import APP, APP_INFO, NO_HASH_PART

NEW = "/gnu/store/0000000000000000000000000000000a-new"
NEW_ROW = (999, NEW, f"sha256:{'0b' * 32}", 1, None, 200)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A database that nobody has open: all is in one file."""
    make_database(tmp_path)
    return tmp_path


def insert(database: sqlite3.Connection, row: tuple[object, ...]) -> None:
    database.execute("INSERT INTO ValidPaths VALUES (?, ?, ?, ?, ?, ?)", row)
    database.commit()


@contextmanager
def in_use(directory: Path) -> Iterator[sqlite3.Connection]:
    """The database as the daemon has it open, with an item that is in the log alone."""
    with closing(connect(directory)) as database:
        insert(database, NEW_ROW)
        yield database


def test_an_item(directory: Path) -> None:
    item = StoreDatabase(str(directory), STORE_DIR).find(APP[11:43])
    assert item is not None
    assert item.path == APP
    assert item.nar_hash == APP_INFO.nar_hash
    assert item.nar_size == APP_INFO.nar_size
    assert item.references == tuple(path[11:] for path in APP_INFO.references)
    assert item.deriver == "9ph6fa9lwp06gwqg8vdx6avbfi0f8671-app-1.2.3.drv"


def test_the_list_of_all_items(directory: Path) -> None:
    database = StoreDatabase(str(directory), STORE_DIR)
    assert [item.path for item in database.items()] == sorted(PATHS)
    assert {item.path: item.nar_size for item in database.items()}[APP] == APP_INFO.nar_size
    odd = ("/elsewhere/x", f"{STORE_DIR}/no-item", b"/gnu/store/bytes")
    with in_use(directory) as writer:
        for number, path in enumerate(odd):
            insert(writer, (1000 + number, path, *NEW_ROW[2:]))
        writer.execute("UPDATE ValidPaths SET narSize = NULL WHERE path = ?", (APP,))
        writer.commit()
        items = {item.path: item.nar_size for item in database.items()}
    assert sorted(items) == sorted([*PATHS, NEW])
    assert (items[APP], items[NEW]) == (0, 200)


def test_all_items(directory: Path) -> None:
    database = StoreDatabase(str(directory), STORE_DIR)
    for path in PATHS:
        item = database.find(path[11:43])
        assert item is not None
        assert item.path == path
        assert database.valid(path)
    assert len(PATHS) == 28


@pytest.mark.parametrize(
    "hash_part", [NO_HASH_PART, "z" * 32, APP[11:42] + "h", APP[11:42], "", "'"]
)
def test_what_is_not_there(directory: Path, hash_part: str) -> None:
    assert StoreDatabase(str(directory), STORE_DIR).find(hash_part) is None


@pytest.mark.parametrize(
    "path", [APP[:-1], APP + "/bin", APP[1:], "", f"{STORE_DIR}/{NO_HASH_PART}-x"]
)
def test_what_is_not_valid(directory: Path, path: str) -> None:
    assert not StoreDatabase(str(directory), STORE_DIR).valid(path)


def test_nothing_is_left_behind(directory: Path) -> None:
    before = sorted(os.listdir(directory))
    database = StoreDatabase(str(directory), STORE_DIR)
    assert database.valid(APP)
    assert database.find(APP[11:43]) is not None
    assert sorted(os.listdir(directory)) == before == ["db.sqlite", "schema"]


def test_what_is_still_in_the_log(directory: Path) -> None:
    database = StoreDatabase(str(directory), STORE_DIR)
    assert not database.valid(NEW)
    with in_use(directory):
        assert (directory / "db.sqlite-wal").stat().st_size > 0
        assert database.valid(NEW)
        item = database.find(NEW[11:43])
        assert item is not None
        assert (item.references, item.deriver) == ((), None)
    # The last to close it tidied up: nobody else had it open.
    assert sorted(os.listdir(directory)) == ["db.sqlite", "schema"]
    assert database.valid(NEW)


def test_a_log_without_its_index(directory: Path) -> None:
    with in_use(directory):
        copy = directory / "copy"
        copy.mkdir()
        for name in ("db.sqlite", "db.sqlite-wal", "schema"):
            (copy / name).write_bytes((directory / name).read_bytes())
    before = sorted(os.listdir(copy))
    database = StoreDatabase(str(copy), STORE_DIR)
    # What is in the file is known; to read the log too, its index would have to be made.
    assert database.valid(APP)
    assert not database.valid(NEW)
    assert sorted(os.listdir(copy)) == before


LOOK_UP = """
import os, sys
from guix_glue.local.store_db import StoreDatabase
directory, path = sys.argv[1:]
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    os.close(os.open(os.path.join(directory, "probe"), os.O_CREAT | os.O_WRONLY))
    sys.exit("the directory is not safe from us")
except PermissionError:
    pass
print(StoreDatabase(directory, "/gnu/store").valid(path))
"""


def look_up_as_somebody_else(directory: Path, path: str) -> str:
    """The look-up of a user who may read the database and nothing more."""
    os.chmod(directory, 0o555)
    try:
        found = subprocess.run(
            [sys.executable, "-c", LOOK_UP, str(directory), path],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        os.chmod(directory, 0o755)
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """A database where everybody gets at it: what pytest makes is for its user alone."""
    with TemporaryDirectory() as name:
        make_database(Path(name))
        yield Path(name)


def test_a_reader_who_may_not_write(public_directory: Path) -> None:
    directory = public_directory
    assert look_up_as_somebody_else(directory, APP) == "True"
    assert look_up_as_somebody_else(directory, NEW) == "False"
    with in_use(directory):
        assert look_up_as_somebody_else(directory, NEW) == "True"


def test_a_schema_that_is_not_known(directory: Path) -> None:
    (directory / "schema").write_text("8")
    with pytest.raises(DatabaseError, match="schema b'8'"):
        StoreDatabase(str(directory), STORE_DIR).valid(APP)


def test_no_schema(directory: Path) -> None:
    (directory / "schema").unlink()
    with pytest.raises(DatabaseError, match="schema"):
        StoreDatabase(str(directory), STORE_DIR).find(NO_HASH_PART)


def test_no_database(directory: Path) -> None:
    (directory / "db.sqlite").unlink()
    with pytest.raises(DatabaseError, match=r"db\.sqlite"):
        StoreDatabase(str(directory), STORE_DIR).valid(APP)
    assert os.listdir(directory) == ["schema"]


@pytest.mark.parametrize("content", [b"", b"SQLite", b"x" * 5000])
def test_a_file_that_is_no_database(directory: Path, content: bytes) -> None:
    (directory / "db.sqlite").write_bytes(content)
    with pytest.raises(DatabaseError):
        StoreDatabase(str(directory), STORE_DIR).valid(APP)


def test_a_damaged_database_in_use(directory: Path) -> None:
    with in_use(directory) as writer:
        writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with open(directory / "db.sqlite", "r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(4096)
            file.write(bytes(size - 4096))
        with pytest.raises(DatabaseError, match="malformed"):
            StoreDatabase(str(directory), STORE_DIR).find(APP[11:43])


def test_a_locked_database_is_not_read_without_its_log(directory: Path) -> None:
    with in_use(directory) as writer:
        writer.execute("DELETE FROM ValidPaths WHERE path = ?", (APP,))
        writer.execute("PRAGMA locking_mode = EXCLUSIVE")
        writer.commit()
        writer.execute("UPDATE ValidPaths SET narSize = 1")
        writer.commit()
        with pytest.raises(DatabaseError, match="locked"):
            StoreDatabase(str(directory), STORE_DIR, busy_timeout_s=0).find(APP[11:43])


def test_a_damaged_database(directory: Path) -> None:
    data = bytearray((directory / "db.sqlite").read_bytes())
    data[100:] = bytes(len(data) - 100)
    (directory / "db.sqlite").write_bytes(data)
    with pytest.raises(DatabaseError):
        StoreDatabase(str(directory), STORE_DIR).find(APP[11:43])


HASH_PART = "0" * 31 + "a"


@pytest.mark.parametrize(
    "row",
    [
        (999, f"/gnu/store/{HASH_PART}-a b", f"sha256:{'0b' * 32}", 1, None, 200),
        (999, f"/gnu/store/{HASH_PART}", f"sha256:{'0b' * 32}", 1, None, 200),
        (999, NEW, f"sha256:{'0b' * 31}", 1, None, 200),
        (999, NEW, f"sha1:{'0b' * 32}", 1, None, 200),
        (999, NEW, b"sha256:", 1, None, 200),
        (999, NEW, f"sha256:{'0B' * 32}", 1, None, 200),
        (999, NEW, f"sha256:{'0b' * 32}", 1, None, None),
        (999, NEW, f"sha256:{'0b' * 32}", 1, None, 0),
        (999, NEW, f"sha256:{'0b' * 32}", 1, None, -7),
        (999, NEW, f"sha256:{'0b' * 32}", 1, None, "many"),
        (999, NEW, f"sha256:{'0b' * 32}", 1, "x.drv", 200),
        (999, NEW, f"sha256:{'0b' * 32}", 1, b"/gnu", 200),
    ],
)
def test_what_makes_no_sense(directory: Path, row: tuple[object, ...]) -> None:
    with closing(connect(directory)) as database:
        insert(database, row)
    with pytest.raises(ProtocolError):
        StoreDatabase(str(directory), STORE_DIR).find(HASH_PART)


def test_a_path_that_is_no_text(directory: Path) -> None:
    with closing(connect(directory)) as database:
        row = (999, b"/gnu/store/\xff", f"sha256:{'0b' * 32}", 1, None, 200)
        insert(database, row)
    # Bytes come after all texts.
    assert StoreDatabase(str(directory), STORE_DIR).find("z" * 32) is None


def test_a_text_that_is_no_utf8(directory: Path) -> None:
    with closing(connect(directory)) as database:
        insert(database, NEW_ROW)
        database.execute("UPDATE ValidPaths SET deriver = CAST(x'ff2f' AS TEXT) WHERE id = 999")
        database.commit()
    with pytest.raises(DatabaseError, match="UTF-8"):
        StoreDatabase(str(directory), STORE_DIR).find(HASH_PART)


def test_another_store(directory: Path) -> None:
    assert StoreDatabase(str(directory), "/nix/store").find(APP[11:43]) is None


def test_more_references_than_anything_has(directory: Path) -> None:
    with closing(connect(directory)) as database:
        insert(database, NEW_ROW)
        database.executescript(
            """
            WITH RECURSIVE number(n) AS
                (SELECT 1000 UNION ALL SELECT n + 1 FROM number LIMIT 100001)
            INSERT INTO ValidPaths SELECT n, 'p' || n, '', 1, NULL, 1 FROM number;
            INSERT INTO Refs SELECT 999, id FROM ValidPaths WHERE id >= 1000;
            """
        )
    with pytest.raises(ProtocolError, match="references"):
        StoreDatabase(str(directory), STORE_DIR).find(HASH_PART)


def test_while_a_daemon_comes_and_goes(directory: Path) -> None:
    stop = threading.Event()

    def come_and_go() -> None:
        number = 1000
        while not stop.is_set():
            # The last to close moves the log into the file and removes it.
            with closing(connect(directory)) as database:
                path = f"/gnu/store/{number:032}-x"
                insert(database, (number, path, f"sha256:{'0b' * 32}", 1, None, 200))
            number += 1

    writer = threading.Thread(target=come_and_go)
    writer.start()
    try:
        database = StoreDatabase(str(directory), STORE_DIR)
        for _ in range(100):
            item = database.find(APP[11:43])
            assert item is not None
            assert len(item.references) == 3
    finally:
        stop.set()
        writer.join()
