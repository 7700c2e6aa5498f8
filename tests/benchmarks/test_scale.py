"""The tables of docs/scale.md are what the program writes; and its arithmetic."""

from __future__ import annotations

import json
import re

import psycopg
import pytest

from benchmarks import scale
from eris import BlockSize
from kapla.storage.opening import open_backend
from kapla.storage.postgresql.settings import PostgresSettings

GIB = 1 << 30
TEXT = scale.CONSTANTS.read_text()
CONSTANTS = scale.parse(TEXT)


def test_the_document_has_the_tables_of_the_constants() -> None:
    document = scale.DOCUMENT.read_text()
    assert scale.written(document, CONSTANTS) == document


def test_other_constants_give_other_tables() -> None:
    facts = json.loads(TEXT)
    facts["room"]["1024"]["heap"] *= 2
    other = scale.tables(scale.parse(json.dumps(facts)))
    assert other != scale.tables(CONSTANTS)


@pytest.mark.parametrize("name", ["machine", "room", "image", "lookup", "work"])
def test_a_constant_that_is_missing_is_told(name: str) -> None:
    facts = json.loads(TEXT)
    del facts[name]
    with pytest.raises(ValueError, match=name):
        scale.parse(json.dumps(facts))


def test_a_document_without_a_place_is_told() -> None:
    with pytest.raises(ValueError, match="no place"):
        scale.written("# Nothing", CONSTANTS)


def test_generations_are_those_that_a_store_comes_to() -> None:
    grows = PostgresSettings("postgresql:///x")
    assert scale.generations(1, grows) == 1
    assert scale.generations(4 * GIB, grows) == 1
    assert scale.generations(5 * GIB, grows) == 2
    # Until 64 GiB they have 4 GiB each.
    assert scale.generations(64 * GIB, grows) == 16
    assert scale.generations(1 << 40, grows) > 40
    capped = PostgresSettings("postgresql:///x", max_size=1 << 40)
    assert scale.generations(1 << 40, capped) == 16


def test_a_table_of_a_billion_blocks_has_their_bytes() -> None:
    room = CONSTANTS.room[BlockSize.SMALL]
    tebibytes = 10**9 * room.heap / (1 << 40)
    rows = [row for row in scale.tables(CONSTANTS).splitlines() if row.startswith("| 10⁹ | 1KiB")]
    assert len(rows) == 1
    assert f"| {tebibytes:.3g} TiB |" in rows[0]


def test_what_is_to_be_watched_can_be_pasted(postgres_url: str) -> None:
    queries = re.findall(
        r"^```sql\n(.*?)^```", scale.DOCUMENT.read_text(), re.MULTILINE | re.DOTALL
    )
    assert len(queries) >= 8
    open_backend(PostgresSettings.of(postgres_url)).close()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for query in queries:
            assert connection.execute(query.encode()).description, query
