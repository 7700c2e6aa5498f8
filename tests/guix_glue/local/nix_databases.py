"""A store's database as Nix 2.8 lays it out."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

__all__ = ["APP", "LIB", "NIX_STORE", "connect", "make_nix_database"]

NIX_STORE = "/nix/store"
APP = f"{NIX_STORE}/{'0' * 31}a-app-1.0"
LIB = f"{NIX_STORE}/{'0' * 31}b-lib-2.0"

_SCHEMA = """
CREATE TABLE ValidPaths (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    path TEXT UNIQUE NOT NULL,
    hash TEXT NOT NULL,
    registrationTime INTEGER NOT NULL,
    deriver TEXT,
    narSize INTEGER,
    ultimate INTEGER,
    sigs TEXT,
    ca TEXT
);
CREATE TABLE Refs (
    referrer INTEGER NOT NULL REFERENCES ValidPaths(id) ON DELETE CASCADE,
    reference INTEGER NOT NULL REFERENCES ValidPaths(id) ON DELETE RESTRICT,
    PRIMARY KEY (referrer, reference)
);
CREATE INDEX IndexReferrer ON Refs(referrer);
CREATE INDEX IndexReference ON Refs(reference);
CREATE TABLE DerivationOutputs (
    drv INTEGER NOT NULL REFERENCES ValidPaths(id) ON DELETE CASCADE,
    id TEXT NOT NULL,
    path TEXT NOT NULL,
    PRIMARY KEY (drv, id)
);
CREATE INDEX IndexDerivationOutputs ON DerivationOutputs(path);
"""


def connect(directory: Path, journal: str = "WAL") -> sqlite3.Connection:
    """Open it for writing, as Nix does: `TRUNCATE` is what `use-sqlite-wal = false` gives."""
    database = sqlite3.connect(directory / "db.sqlite", isolation_level=None)
    database.execute(f"PRAGMA journal_mode = {journal}")
    return database


def make_nix_database(
    directory: Path, rows: Iterable[Sequence[object]] = (), *, journal: str = "WAL"
) -> None:
    """Make `db.sqlite` and `schema`; nobody has them open afterwards.

    A row is a path, a hash, a deriver, a nar size, signatures and a content address. The first
    refers to itself, and to the others.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with closing(connect(directory, journal)) as database:
        database.executescript(_SCHEMA)
        for number, (path, digest, deriver, size, signatures, address) in enumerate(rows, 1):
            database.execute(
                "INSERT INTO ValidPaths VALUES (?, ?, ?, 1, ?, ?, 1, ?, ?)",
                (number, path, digest, deriver, size, signatures, address),
            )
            database.execute("INSERT INTO Refs VALUES (1, ?)", (number,))
    (directory / "schema").write_text("10")
