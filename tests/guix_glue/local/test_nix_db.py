"""The database of Nix: what it has beside that of Guix, and both ways to keep a journal."""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from pathlib import Path

import pytest

from guix_glue.errors import DatabaseError, InvalidFacts
from guix_glue.local.store_db import GUIX_LAYOUT, NIX_LAYOUT, StoreDatabase
from guix_glue.model import StoreItem
from tests.guix_glue.local.nix_databases import APP, LIB, NIX_STORE, connect, make_nix_database

DRV = f"{NIX_STORE}/{'0' * 31}c-app-1.0.drv"
SIGNATURE = f"cache.example-1:{'A' * 86}=="
OTHER = f"other:{'B' * 86}=="
ADDRESS = f"fixed:r:sha256:{'1' * 52}"
HASH = "0b" * 32
ROWS = (
    (APP, f"sha256:{HASH}", DRV, 1000, f"{SIGNATURE} {OTHER}", None),
    (LIB, f"sha256:{HASH}", None, 120, None, ADDRESS),
)
NEW = f"{NIX_STORE}/{'0' * 31}d-new"
INSERT = (
    f"INSERT INTO ValidPaths VALUES (9, '{NEW}', 'sha256:{HASH}', 1, NULL, 120, NULL, NULL, NULL)"
)


def opened(directory: Path, *, busy_timeout_s: float = 5) -> StoreDatabase:
    return StoreDatabase(str(directory), NIX_STORE, NIX_LAYOUT, busy_timeout_s=busy_timeout_s)


def found(directory: Path, path: str) -> StoreItem | None:
    return opened(directory).find(path[len(NIX_STORE) + 1 :][:32])


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    make_nix_database(tmp_path, ROWS)
    return tmp_path


def test_what_is_known_of_items(directory: Path) -> None:
    app, lib = os.path.basename(APP), os.path.basename(LIB)
    assert found(directory, APP) == StoreItem(
        APP,
        bytes.fromhex(HASH),
        1000,
        (app, lib),
        os.path.basename(DRV),
        signatures=(SIGNATURE, OTHER),
    )
    assert found(directory, LIB) == StoreItem(
        LIB, bytes.fromhex(HASH), 120, (), content_address=ADDRESS
    )
    assert opened(directory).valid(LIB)
    # What is in the directory of the store beside items has no row.
    assert not opened(directory).valid(f"{NIX_STORE}/.links")
    assert not opened(directory).valid(f"{LIB}.lock")


def test_a_database_of_the_other_kind(directory: Path) -> None:
    with pytest.raises(DatabaseError, match="schema b'10'; b'7' is known"):
        StoreDatabase(str(directory), NIX_STORE, GUIX_LAYOUT).valid(APP)


@pytest.mark.parametrize(
    ("signatures", "kept"),
    [
        ("", ()),
        (f"  {SIGNATURE}\t{SIGNATURE} ", (SIGNATURE,)),
        (f"nothing {SIGNATURE} :x a:\x07 name:b\u00e4", (SIGNATURE,)),
        (f"{SIGNATURE}\nURL: x", (SIGNATURE,)),
        (b"bytes", ()),
        (" ".join(f"n{number}:AAAA" for number in range(100)), None),
    ],
)
def test_signatures_that_are_none_are_left_out(
    tmp_path: Path, signatures: object, kept: tuple[str, ...] | None
) -> None:
    make_nix_database(tmp_path, [(LIB, f"sha256:{HASH}", None, 120, signatures, None)])
    item = found(tmp_path, LIB)
    assert item is not None
    assert item.signatures == kept if kept is not None else len(item.signatures) == 64


@pytest.mark.parametrize("address", ["fixed", "fixed:r:sha256:1\nSig: x", b"x", 5, "text::" * 99])
def test_a_content_address_that_is_none(tmp_path: Path, address: object) -> None:
    make_nix_database(tmp_path, [(LIB, f"sha256:{HASH}", None, 120, None, address)])
    with pytest.raises(InvalidFacts):
        found(tmp_path, LIB)


@pytest.mark.parametrize(
    "address", [f"text:sha256:{'1' * 52}", f"fixed:sha1:{'1' * 32}", f"fixed:git:sha256:{'1' * 52}"]
)
def test_content_addresses_of_all_kinds(tmp_path: Path, address: str) -> None:
    make_nix_database(tmp_path, [(LIB, f"sha256:{HASH}", None, 120, None, address)])
    item = found(tmp_path, LIB)
    assert item is not None
    assert item.content_address == address


def test_what_is_still_in_the_log(directory: Path) -> None:
    with closing(connect(directory)) as database:
        database.execute(INSERT)
        assert (directory / "db.sqlite-wal").stat().st_size > 0
        assert found(directory, NEW) is not None
    assert found(directory, NEW) is not None
    assert sorted(os.listdir(directory)) == ["db.sqlite", "schema"]


def test_a_journal_in_the_place_of_a_log(tmp_path: Path) -> None:
    make_nix_database(tmp_path, ROWS, journal="TRUNCATE")
    before = sorted(os.listdir(tmp_path))
    assert found(tmp_path, APP) is not None
    with closing(connect(tmp_path, "TRUNCATE")) as database:
        database.execute("BEGIN IMMEDIATE")
        database.execute(INSERT)
        # Nothing of a change is seen before it is done.
        assert (tmp_path / "db.sqlite-journal").stat().st_size > 0
        assert found(tmp_path, NEW) is None
        assert found(tmp_path, APP) is not None
        database.execute("COMMIT")
        assert found(tmp_path, NEW) is not None
    assert sorted(os.listdir(tmp_path)) == before


def test_a_change_that_nobody_ended(tmp_path: Path) -> None:
    make_nix_database(tmp_path, ROWS, journal="TRUNCATE")
    killed = tmp_path / "killed"
    killed.mkdir()
    with closing(connect(tmp_path, "TRUNCATE")) as database:
        # So little memory that what is changed is in the file before the change is done.
        database.execute("PRAGMA cache_size = 1")
        database.execute("PRAGMA cache_spill = 1")
        database.execute("BEGIN IMMEDIATE")
        for number in range(2000):
            path = f"{NIX_STORE}/{number:032}-x"
            row = (path, f"sha256:{HASH}")
            database.execute("INSERT INTO ValidPaths VALUES (NULL, ?, ?, 1,0,0,0,0,0)", row)
        for name in ("db.sqlite", "db.sqlite-journal", "schema"):
            shutil.copyfile(tmp_path / name, killed / name)
    before = {name: (killed / name).read_bytes() for name in os.listdir(killed)}
    with pytest.raises(DatabaseError, match="left in the middle of a change"):
        opened(killed, busy_timeout_s=0.1).valid(APP)
    assert {name: (killed / name).read_bytes() for name in os.listdir(killed)} == before


def test_a_change_is_waited_for_no_longer_than_told(tmp_path: Path) -> None:
    make_nix_database(tmp_path, ROWS, journal="TRUNCATE")
    with closing(connect(tmp_path, "TRUNCATE")) as database:
        database.execute("BEGIN EXCLUSIVE")
        database.execute(INSERT)
        with pytest.raises(DatabaseError):
            opened(tmp_path, busy_timeout_s=0.05).valid(APP)
        database.execute("ROLLBACK")
    assert opened(tmp_path).valid(APP)
