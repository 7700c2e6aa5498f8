"""A store's database as Guix lays it out, with what the samples have."""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from guix_glue.model import StoreItem
from tests.guix_glue.samples import SAMPLES

STORE_DIR = "/gnu/store"

_SCHEMA = """
CREATE TABLE ValidPaths (
    id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    path TEXT UNIQUE NOT NULL,
    hash TEXT NOT NULL,
    registrationTime INTEGER NOT NULL,
    deriver TEXT,
    narSize INTEGER
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
CREATE TABLE FailedPaths (path TEXT PRIMARY KEY NOT NULL, time INTEGER NOT NULL);
"""


def _rows(table: str) -> list[list[str | None]]:
    with (SAMPLES / "db" / f"{table}.tsv").open(newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    return [[None if value == "NULL" else value for value in row] for row in rows[1:]]


PATHS = [row[1] or "" for row in _rows("ValidPaths")]


def connect(directory: Path) -> sqlite3.Connection:
    """Open it for writing, as the daemon does."""
    database = sqlite3.connect(directory / "db.sqlite")
    database.execute("PRAGMA journal_mode = WAL")
    return database


def make_database(directory: Path) -> None:
    """Make `db.sqlite` and `schema`; nobody has them open afterwards."""
    with closing(connect(directory)) as database:
        database.executescript(_SCHEMA)
        for table in ("ValidPaths", "Refs", "DerivationOutputs"):
            rows = _rows(table)
            marks = ", ".join("?" for _ in rows[0])
            database.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        database.commit()
    (directory / "schema").write_bytes((SAMPLES / "db" / "schema-version").read_bytes())


def add_items(directory: Path, items: Sequence[StoreItem]) -> None:
    """Make a database of these items; what they refer to is among them, and stands before."""
    directory.mkdir()
    numbers = {item.base_name: number for number, item in enumerate(items, 1)}
    with closing(connect(directory)) as database:
        database.executescript(_SCHEMA)
        for item in items:
            digest = f"sha256:{item.nar_hash.hex()}"
            row = (numbers[item.base_name], item.path, digest, 1, None, item.nar_size)
            database.execute("INSERT INTO ValidPaths VALUES (?, ?, ?, ?, ?, ?)", row)
            for name in item.references:
                refers = (numbers[item.base_name], numbers[name])
                database.execute("INSERT INTO Refs VALUES (?, ?)", refers)
        database.commit()
    (directory / "schema").write_bytes((SAMPLES / "db" / "schema-version").read_bytes())
