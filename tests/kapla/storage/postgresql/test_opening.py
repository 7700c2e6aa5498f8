"""A database is made ready when it is opened, or it is said what is the matter with it."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from kapla.errors import StorageError
from kapla.storage.opening import open_backend
from kapla.storage.postgresql.settings import PostgresSettings
from tests.kapla.storage.contract.stores import batched, get, make_blocks, put
from tests.kapla.storage.pins.stores import OWNER, pinned
from tests.postgres import Server

SECRET = "verysecret"
DRIVEN = "kapla.storage.postgresql."


def test_two_that_start_at_once_make_the_tables_once(postgres_url: str) -> None:
    settings = PostgresSettings.of(postgres_url)
    with ThreadPoolExecutor(4) as threads:
        backends = list(threads.map(open_backend, [settings] * 4))
    for backend in backends:
        assert backend.totals() == {1024: 0, 32768: 0}
        backend.close()


def test_tables_of_a_newer_version_are_left_alone(
    postgres_url: str, postgres_server: Server
) -> None:
    settings = PostgresSettings.of(postgres_url)
    open_backend(settings).close()
    postgres_server.execute("UPDATE kapla_schema SET version = 2", postgres_url)
    with pytest.raises(StorageError, match="version 2, and this program knows 1"):
        open_backend(settings)


def test_tables_of_something_else_are_left_alone(
    postgres_url: str, postgres_server: Server
) -> None:
    postgres_server.execute("CREATE TABLE accounts (id int)", postgres_url)
    with pytest.raises(StorageError, match="give Kapla one of its own"):
        open_backend(PostgresSettings.of(postgres_url))
    tables = postgres_server.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public'", postgres_url
    )
    assert tables == [("accounts",)]


def test_who_may_not_make_tables_is_told(postgres_url: str, postgres_server: Server) -> None:
    postgres_server.execute("DROP ROLE IF EXISTS nobody_much")
    postgres_server.execute("CREATE ROLE nobody_much LOGIN")
    postgres_server.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC", postgres_url)
    url = postgres_url.replace("postgres@", f"nobody_much:{SECRET}@")
    with pytest.raises(StorageError, match="permission denied for schema public") as caught:
        open_backend(PostgresSettings.of(url))
    assert SECRET not in str(caught.value)
    postgres_server.execute("DROP ROLE nobody_much")


def test_who_will_not_be_able_to_make_or_drop_tables_is_told_at_the_start(
    postgres_url: str, postgres_server: Server
) -> None:
    # As after a restore by the superuser: all would go well until the first generation is full.
    settings = PostgresSettings.of(postgres_url)
    open_backend(settings).close()
    postgres_server.execute("DROP ROLE IF EXISTS restorer")
    postgres_server.execute("CREATE ROLE restorer LOGIN")
    theirs = PostgresSettings.of(postgres_url.replace("postgres@", "restorer@"))
    for statement, said in (
        ("GRANT ALL ON ALL TABLES IN SCHEMA public TO restorer", "for schema public"),
        ("GRANT CREATE ON SCHEMA public TO restorer", "for its tables"),
    ):
        postgres_server.execute(statement, postgres_url)
        with pytest.raises(StorageError, match=f": permission denied {said}: the role is to own"):
            open_backend(theirs)
    # To look at it reading is enough.
    open_backend(replace(theirs, may_make=False)).close()
    postgres_server.execute("DROP OWNED BY restorer", postgres_url)
    postgres_server.execute("DROP ROLE restorer")


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SECRET}@/nowhere?host=/nonexistent",
        f"postgresql://me:{SECRET}@[::1/nowhere",
        f"postgresql://me:{SECRET}@host:port:port/x",
        f"postgresql:///x?password={SECRET}&unknown=1",
        f"http://me:{SECRET}@host/x",
        f"postgresql:me:{SECRET}@host/x",
    ],
)
def test_no_error_tells_the_password(url: str) -> None:
    with pytest.raises(StorageError) as caught:
        open_backend(PostgresSettings.of(url))
    shown = str(caught.value) + repr(caught.value)
    assert SECRET not in shown


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("sslmod=require", "the database: is sslmode meant?"),
        ("target_session_attr=any", "the database: is target_session_attrs meant?"),
        (f"{SECRET}=1", "the database"),
    ],
)
def test_a_mistyped_name_in_the_url_is_not_repeated(query: str, said: str) -> None:
    with pytest.raises(StorageError) as caught:
        open_backend(PostgresSettings.of(f"postgresql:///blocks?{query}"))
    assert str(caught.value).endswith(f": libpq cannot read the URL of {said}")


def test_who_only_looks_makes_no_tables(postgres_url: str, postgres_server: Server) -> None:
    settings = PostgresSettings.of(postgres_url, may_make=False)
    with pytest.raises(StorageError, match="there is no store in this database"):
        open_backend(settings)
    count = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    assert postgres_server.execute(count, postgres_url) == [(0,)]
    open_backend(PostgresSettings.of(postgres_url)).close()
    open_backend(settings).close()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgresql://me:{SECRET}@db.example:5433/blocks", "postgresql://db.example:5433/blocks"),
        (f"postgresql:///blocks?password={SECRET}&host=db", "postgresql://db/blocks"),
        (f"postgres://u:{SECRET}@/b%20c?host=/run/pg", "postgresql:///b c in /run/pg"),
        (f"postgresql:///?service=kapla&password={SECRET}", "postgresql:///?service=kapla"),
    ],
)
def test_settings_show_host_and_database_alone(url: str, shown: str) -> None:
    settings = PostgresSettings.of(url)
    assert str(settings) == shown
    assert SECRET not in repr(settings)


def test_without_the_driver_it_is_said_how_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kapla.storage.postgresql.backend", None)
    with pytest.raises(StorageError, match=r"pip install 'psycopg\[binary\]'"):
        open_backend(PostgresSettings.of("postgresql:///blocks"))


def test_a_driver_without_its_library_is_no_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As psycopg says it where there is no libpq.
    (tmp_path / "psycopg.py").write_text(
        'raise ImportError("no pq wrapper available.\\nAttempts made:\\n- many")\n'
    )
    loaded = [name for name in sys.modules if name.startswith(("psycopg", DRIVEN))]
    for name in loaded:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(StorageError, match=r"is missing \(no pq wrapper available\.\): pip"):
        open_backend(PostgresSettings.of("postgresql:///blocks"))


def test_nothing_of_the_url_matters_to_others(postgres_url: str) -> None:
    # What an administrator sets in the URL comes first.
    url = postgres_url + "&application_name=mirror&connect_timeout=3"

    async def main() -> None:
        async with batched(PostgresSettings.of(url)) as storage:
            blocks = make_blocks(10)
            await put(storage, blocks)
            assert await get(storage, list(blocks)) == list(blocks.values())

    asyncio.run(main())


@pytest.mark.parametrize(("encoding", "is_good"), [("SQL_ASCII", True), ("LATIN1", False)])
def test_a_database_has_all_letters(
    postgres_server: Server, encoding: str, *, is_good: bool
) -> None:
    name = f"as_{encoding.lower()}"
    postgres_server.execute(
        f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
    )
    # Nobody has it otherwise by the URL.
    settings = PostgresSettings.of(postgres_server.url(name) + "&client_encoding=latin1")

    async def main() -> None:
        async with batched(settings) as storage:
            await pinned(storage, make_blocks(5), "Дом ☂")
            pins, _ = await storage.pinning.list(OWNER, None, 10)
            assert [pin.name for pin in pins] == ["Дом ☂"]

    if is_good:
        asyncio.run(main())
    else:
        with pytest.raises(StorageError, match=f"its encoding is {encoding}"):
            open_backend(settings)
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")
