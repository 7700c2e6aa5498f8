"""Maps in every form that is read and written: what one holds, all hold."""

from __future__ import annotations

import asyncio
import os
import socket
import sqlite3
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from eris import MemoryStore
from eris.store import BlockReader
from eris.transfer import put_content
from guix_glue.errors import DatabaseError, FetchFailed, InvalidStorePath
from guix_glue.formats.item_map import Contents, InvalidMap, hash_part_at, urn_of
from guix_glue.maps.database import write_database
from guix_glue.maps.opened import MapUnusable, open_map
from guix_glue.maps.port import Map, UnlistedMap
from guix_glue.maps.writing import Form, form_of, lines_of, write_folder, write_map
from tests.guix_glue.fetch.fakes import FakeServer, Reply, running_server, scripted_server
from tests.guix_glue.maps.entries import a_urn, contents, hash_parts

COUNT = 300


def in_file(path: Path, made: Contents) -> str:
    with (path / "items.map").open("wb") as file:
        write_map(file, made)
    return str(path / "items.map")


def in_folder(path: Path, made: Contents) -> str:
    write_folder(path / "folder", made)
    return str(path / "folder")


def in_database(path: Path, made: Contents) -> str:
    write_database(path / "items.sqlite", made)
    assert (path / "items.sqlite").stat().st_mode & 0o777 == 0o600
    return str(path / "items.sqlite")


def in_list(path: Path, made: Contents) -> str:
    (path / "items").write_text("".join(lines_of(made)))
    return str(path / "items")


def with_map(
    text: str, use: Callable[[Map], Awaitable[object]], store: BlockReader | None = None
) -> None:
    async def run() -> None:
        one = (await open_map(text, lambda: store)).map
        try:
            await use(one)
        finally:
            await one.close()

    asyncio.run(run())


@pytest.mark.parametrize("write", [in_file, in_folder, in_database, in_list])
def test_each_form_holds_the_same(tmp_path: Path, write: Callable[[Path, Contents], str]) -> None:
    made = contents(COUNT)

    async def use(one: Map) -> None:
        for entry in list(made)[::37]:
            assert await one.find(hash_part_at(entry.key)) == urn_of(entry.value)
        assert await one.find(hash_parts(1)[0]) is None
        assert list(await one.load()) == list(made)

    with_map(write(tmp_path, made), use)


def test_a_map_in_blocks_by_its_urn() -> None:
    made = contents(COUNT)
    store = MemoryStore()
    capability = asyncio.run(put_content(store, b"".join(made.format())))

    async def use(one: Map) -> None:
        entry = next(iter(made))
        assert await one.find(hash_part_at(entry.key)) == urn_of(entry.value)
        assert list(await one.load()) == list(made)

    with_map(capability.to_urn(), use, store)
    with pytest.raises(MapUnusable, match="store"):
        with_map(capability.to_urn(), use)


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    with running_server() as one:
        yield one


def test_a_server_is_asked_for_one_item(server: FakeServer) -> None:
    hash_part, other, wrong = hash_parts(3)
    server.files[f"/map/{hash_part}"] = f"{a_urn()}\n".encode()
    server.files[f"/map/{wrong}"] = b"x" * 100_000

    async def use(one: Map) -> None:
        assert await one.find(hash_part) == a_urn()
        assert await one.find(other) is None
        with pytest.raises(FetchFailed, match="no URN"):
            await one.find(wrong)
        with pytest.raises(UnlistedMap):
            await one.load()

    for url in (server.url, f"{server.url}/map", f"{server.url}/"):
        with_map(url, use)


def test_an_answer_in_pieces_and_one_that_breaks_off() -> None:
    urn, (hash_part, other) = a_urn().encode(), hash_parts(2)

    def answer(connection: socket.socket) -> None:
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
        if hash_part.encode() not in connection.recv(65536):
            connection.sendall(head + b"Content-Length: 116\r\n\r\n" + urn[:20])
            return
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        for part in (urn[:20], urn[20:], b""):
            connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))

    async def use(one: Map) -> None:
        assert await one.find(hash_part) == a_urn()
        with pytest.raises(FetchFailed, match="lost"):
            await one.find(other)

    with scripted_server(answer) as url:
        with_map(url, use)


def test_a_servers_map_in_blocks(server: FakeServer) -> None:
    made = contents(COUNT)
    store = MemoryStore()
    urn = asyncio.run(put_content(store, b"".join(made.format()))).to_urn()
    server.files["/some/map.urn"] = f"{urn}\n".encode()

    async def use(one: Map) -> None:
        asked = server.requests.count("/some/map.urn")
        for entry in list(made)[:5]:
            assert await one.find(hash_part_at(entry.key)) == urn_of(entry.value)
        assert list(await one.load()) == list(made)
        assert server.requests.count("/some/map.urn") == asked + 1

    with_map(f"{server.url}/some/map.urn", use, store)


def test_a_server_that_has_no_map(server: FakeServer) -> None:
    async def use(one: Map) -> None:
        with pytest.raises(FetchFailed, match="no map"):
            await one.find(hash_parts(1)[0])

    with_map(f"{server.url}/none/map.urn", use, MemoryStore())
    server.files["/ill/map.urn"] = Reply(b"", 500)

    async def fails(one: Map) -> None:
        with pytest.raises(FetchFailed, match="500"):
            await one.find(hash_parts(1)[0])

    with_map(f"{server.url}/ill/map.urn", fails, MemoryStore())


def test_a_folder_is_made_the_map_and_what_is_no_item_stays(tmp_path: Path) -> None:
    before, after = hash_parts(2)
    (tmp_path / f"{before}-app-1").write_text(a_urn(1))
    others = {"README", f"{before}.narinfo", f"{before}aa"}
    for name in others:
        (tmp_path / name).write_text("about it")
    made = contents(3)
    write_folder(tmp_path, made)
    stamps = {name: (tmp_path / name).stat().st_mtime_ns for name in os.listdir(tmp_path)}
    assert stamps.keys() == {*others, *(hash_part_at(entry.key) for entry in made)}
    write_folder(tmp_path, made)
    assert stamps == {name: (tmp_path / name).stat().st_mtime_ns for name in os.listdir(tmp_path)}
    (tmp_path / after).write_text("nonsense")
    with pytest.raises(InvalidMap, match=after):
        with_map(str(tmp_path), lambda one: one.load())


def test_a_list_names_items_in_three_ways(tmp_path: Path) -> None:
    one, two, three = hash_parts(3)
    (tmp_path / "list").write_text(
        f"/gnu/store/{one}-app-1 {a_urn(1)}\n\n{two}-lib {a_urn(2)}\n{three}\t{a_urn(3)}\n"
        f"{three} {a_urn(4)}\n"
    )

    async def use(found: Map) -> None:
        urns = [await found.find(hash_part) for hash_part in (one, two, three)]
        assert urns == [a_urn(1), a_urn(2), a_urn(4)]

    with_map(str(tmp_path / "list"), use)


@pytest.mark.parametrize(
    "line", ["one", "a b c", f"{'e' * 32} {a_urn()}", f"{'0' * 32} urn:eris:A"]
)
def test_a_line_that_is_wrong_is_named_without_its_urn(tmp_path: Path, line: str) -> None:
    (tmp_path / "list").write_text(f"{'1' * 32} {a_urn()}\n{line}\n")
    with pytest.raises(MapUnusable, match="line 2") as caught:
        with_map(str(tmp_path / "list"), lambda one: one.load())
    assert line.rsplit(maxsplit=1)[-1] not in str(caught.value)


def test_a_list_of_empty_lines_takes_no_memory(tmp_path: Path) -> None:
    size = 300_000
    in_list(tmp_path, contents(1))
    with_map(str(tmp_path / "items"), lambda one: one.find("0" * 32))
    (tmp_path / "list").write_bytes(b"\n" * size)
    tracemalloc.start()
    try:
        with_map(str(tmp_path / "list"), lambda one: one.find("0" * 32))
        assert tracemalloc.get_traced_memory()[1] < 6 * size
    finally:
        tracemalloc.stop()


def test_a_database_of_others(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE map (hash_part TEXT, urn)")
        database.execute("INSERT INTO map VALUES (?, 5)", (hash_parts(1)[0],))
        database.commit()

    async def use(one: Map) -> None:
        assert await one.find("0" * 32) is None
        for look in (one.find(hash_parts(1)[0]), one.load()):
            with pytest.raises(InvalidMap):
                await look

    with_map(str(path), use)
    with closing(sqlite3.connect(path)) as database:
        database.execute("DROP TABLE map")
        database.commit()

    async def fails(one: Map) -> None:
        with pytest.raises(DatabaseError, match="as a map"):
            await one.find("0" * 32)

    with_map(str(path), fails)


def test_a_database_whose_table_is_a_query(tmp_path: Path) -> None:
    path = tmp_path / "endless.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute(
            "CREATE VIEW map AS WITH RECURSIVE n(hash_part, urn) AS"
            " (VALUES (0, 0) UNION ALL SELECT hash_part + 1, urn FROM n) SELECT * FROM n"
        )

    async def use(one: Map) -> None:
        for look in (one.find("0" * 32), one.load()):
            with pytest.raises(DatabaseError, match="not authorized"):
                await look

    with_map(str(path), use)


def test_a_database_that_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guix_glue.maps.database._FIND_S", -1.0)
    path = tmp_path / "long.sqlite"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE map (hash_part TEXT, urn TEXT)")
        database.executemany("INSERT INTO map VALUES (?, '')", [("1" * 32,)] * 10_000)
        database.commit()

    async def use(one: Map) -> None:
        with pytest.raises(DatabaseError, match="interrupted"):
            await one.find("0" * 32)

    with_map(str(path), use)


def test_what_is_no_file_in_a_folder_is_not_waited_for(tmp_path: Path) -> None:
    hash_part = hash_parts(1)[0]
    os.mkfifo(tmp_path / hash_part)

    async def use(one: Map) -> None:
        with pytest.raises(OSError, match="regular"):
            await one.find(hash_part)
        with pytest.raises(InvalidStorePath):
            await one.find(f"../{tmp_path.name}/{hash_part}")

    with_map(str(tmp_path), use)


def test_a_map_that_is_cut_off(tmp_path: Path) -> None:
    path = Path(in_file(tmp_path, contents(COUNT)))
    path.write_bytes(path.read_bytes()[:5000])

    async def use(one: Map) -> None:
        with pytest.raises(InvalidMap):
            await one.find("z" * 32)
        with pytest.raises(InvalidMap):
            await one.load()

    with_map(str(path), use)


@pytest.mark.parametrize(
    "text", ["http://", "https://user@/x", "http://h?query", "urn:eris:ABC", "nowhere"]
)
def test_what_is_no_map_at_all(text: str) -> None:
    with pytest.raises((MapUnusable, ValueError, FileNotFoundError)):
        with_map(text, lambda one: one.load(), MemoryStore())


def test_names_suggest_forms(tmp_path: Path) -> None:
    assert form_of("-") is Form.LIST
    assert form_of(str(tmp_path)) is form_of("new/") is Form.FOLDER
    assert form_of("a.sqlite") is form_of("a.db") is Form.SQLITE
    assert form_of("a.txt") is Form.LIST
    assert form_of("a") is form_of("a.map") is Form.MAP
