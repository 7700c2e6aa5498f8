"""A store with blocks of both sizes and two pins, and what can be done to its file."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from eris import BlockSize, Reference
from kapla.storage.sqlite.keeping.ids import Ids
from tests.kapla.storage.databases import make_blocks, opened, settings_for

__all__ = [
    "BLOCKS",
    "DAMAGES",
    "add_pin",
    "blocks_in",
    "make_store",
    "pins_in",
    "places_of_blocks",
    "sound_blocks",
    "write_page",
]

BLOCKS = make_blocks(2000) | make_blocks(60, BlockSize.LARGE)


def make_store(directory: Path, *, keep_wal: bool = False) -> Path:
    """A store `blocks.sqlite` with all of `BLOCKS`, and pins over two parts of them."""
    path = directory / "blocks.sqlite"
    items = list(BLOCKS.items())
    random.Random(1).shuffle(items)
    with opened(settings_for(directory, generation=512)) as store:
        for start in range(0, len(items), 300):
            store.writer.put_many(dict(items[start : start + 300]))
        add_pin(path, b"first", [name for name, _ in items[:700]])
        add_pin(path, b"second", [name for name, _ in items[400:1400]], owner=1000, lend=1)
        if keep_wal:
            for suffix in ("", "-wal"):
                kept = path.with_name(f"kept.sqlite{suffix}")
                kept.write_bytes(path.with_name(path.name + suffix).read_bytes())
    return path


def add_pin(
    path: Path, name: bytes, references: Sequence[bytes], *, owner: int = 0, lend: int = 0
) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        rows = connection.execute("SELECT reference, id, length(block) FROM blocks").fetchall()
        known = {reference: (block_id, size) for reference, block_id, size in rows}
        sets = [
            Ids(known[one][0] for one in references if one in known and known[one][1] == size)
            for size in BlockSize
        ]
        connection.execute(
            "INSERT INTO pins (owner, name, root, keep, lend, created, small, large)"
            " VALUES (?, ?, ?, 1, ?, 1700000000, ?, ?)",
            (owner, name, references[0], lend, *[ids.pack() for ids in sets]),
        )


def blocks_in(path: Path) -> dict[bytes, bytes]:
    """All that a store holds, by name."""
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT reference, block FROM blocks").fetchall())


def pins_in(path: Path) -> dict[bytes, set[bytes]]:
    """What each pin holds, by name."""
    with closing(sqlite3.connect(path)) as connection:
        names = dict(connection.execute("SELECT id, reference FROM blocks").fetchall())
        rows = connection.execute("SELECT name, small, large FROM pins").fetchall()
        return {
            name: {names[i] for i in Ids.unpack(small) | Ids.unpack(large)}
            for name, small, large in rows
        }


def _pages_of(path: Path, table: str) -> list[int]:
    """The pages of a table, the root first."""
    with closing(sqlite3.connect(path)) as connection:
        (size,) = connection.execute("PRAGMA page_size").fetchone()
        (root,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)
        ).fetchone()
    data = path.read_bytes()
    found, todo = [], [root]
    while todo:
        number = todo.pop(0)
        found.append(number)
        page = data[(number - 1) * size : number * size]
        if page[0] in (2, 5):
            count = int.from_bytes(page[3:5], "big")
            cells = [int.from_bytes(page[12 + 2 * i : 14 + 2 * i], "big") for i in range(count)]
            todo += [int.from_bytes(page[at : at + 4], "big") for at in cells]
            todo.append(int.from_bytes(page[8:12], "big"))
    return found


def _write(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


_PAGE = 16384


def write_page(path: Path, content: bytes, page: bytes) -> bytes:
    """Overwrite the page on which this is; returns what was there."""
    data = path.read_bytes()
    at = data.index(content) // len(page) * len(page)
    _write(path, at, page)
    return data[at : at + len(page)]


def _noise(count: int) -> bytes:
    return random.Random(count).randbytes(count)


def torn_pages(path: Path) -> None:
    for number in _pages_of(path, "blocks")[3::40]:
        _write(path, (number - 1) * _PAGE + _PAGE // 2, _noise(_PAGE // 2))


def torn_at_the_front(path: Path) -> None:
    for number in _pages_of(path, "blocks")[3::40]:
        _write(path, (number - 1) * _PAGE, _noise(4096))


def truncated(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 4 // 5 + 1000)


def header_gone(path: Path) -> None:
    _write(path, 0, bytes(100))


def first_page_gone(path: Path) -> None:
    _write(path, 0, _noise(_PAGE))


def garbage_in_the_middle(path: Path) -> None:
    _write(path, path.stat().st_size // 2 - 777, _noise(200_000))


def index_page_gone(path: Path) -> None:
    for number in _pages_of(path, "places")[:3]:
        _write(path, (number - 1) * _PAGE, bytes(_PAGE))


def root_of_blocks_gone(path: Path) -> None:
    _write(path, (_pages_of(path, "blocks")[0] - 1) * _PAGE, _noise(_PAGE))


def free_list_damaged(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE other (data)")
        connection.executemany("INSERT INTO other VALUES (?)", [(_noise(40_000),)] * 10)
        connection.execute("DROP TABLE other")
        assert connection.execute("PRAGMA freelist_count").fetchone() > (10,)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    trunk = int.from_bytes(path.read_bytes()[32:36], "big")
    _write(path, (trunk - 1) * _PAGE, _noise(_PAGE))


def pins_gone(path: Path) -> None:
    for number in _pages_of(path, "pins"):
        _write(path, (number - 1) * _PAGE, bytes(_PAGE))


def flipped_bits(path: Path) -> None:
    source = random.Random(7)
    data = bytearray(path.read_bytes())
    for _ in range(20):
        data[source.randrange(_PAGE, len(data))] ^= 1 << source.randrange(8)
    path.write_bytes(data)


def overflow_pointers_gone(path: Path) -> None:
    data, seen = path.read_bytes(), 0
    for name, block in BLOCKS.items():
        if len(block) == BlockSize.LARGE and name[0] % 8 == 0:
            at = data.index(block[5000:5100])
            _write(path, at - at % _PAGE, b"\xff\xff\xff\xf0")
            seen += 1
    assert seen


DAMAGES: Sequence[Callable[[Path], None]] = (
    torn_pages,
    torn_at_the_front,
    truncated,
    header_gone,
    first_page_gone,
    garbage_in_the_middle,
    index_page_gone,
    root_of_blocks_gone,
    free_list_damaged,
    pins_gone,
    flipped_bits,
    overflow_pointers_gone,
)


def places_of_blocks(path: Path) -> dict[Reference, list[tuple[int, bytes]]]:
    """Where the parts of each block stand in a sound file, its name among them."""
    data, found = path.read_bytes(), {}
    for name, block in BLOCKS.items():
        found[name] = [(data.index(part), part) for part in _parts(name, block)]
    return found


def sound_blocks(path: Path, places: dict[Reference, list[tuple[int, bytes]]]) -> set[Reference]:
    """The blocks of which every byte is still where it was."""
    data = path.read_bytes()
    return {
        name
        for name, parts in places.items()
        if all(data[at : at + len(part)] == part for at, part in parts)
    }


def _parts(name: bytes, block: bytes) -> list[bytes]:
    """As SQLite cuts a large block: 2031 bytes of payload in the cell, 16380 on a page."""
    if len(block) == BlockSize.SMALL:
        return [name + block]
    first = 2031 - 38
    return [name + block[:first], block[first : first + 16380], block[first + 16380 :]]
