"""Front ends of a PostgreSQL database against the daemon with a SQLite file, in turns in one run.

The server is one of its own, on the disk, with fsync and all else that makes its commits durable.
Client, front ends and server share the processors, so all that any of them does counts. The client
keeps 64 requests in flight and does nothing else; the blocks are random, and so is what is fetched.

`bare` is one session of the store at a time, without a daemon: it shows what the front adds. The
largest store has 10⁷ blocks, or what KAPLA_BENCH_POSTGRESQL says: 13 GB of disk, and some minutes
to fill. Where the disk has too little room it is left out with a word.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Final, TypeVar

from benchmarks import scale, scale_measure
from benchmarks.filling import fill_database, fill_file, get_frames, made_up, put_frames
from benchmarks.fronts import (
    SETTINGS,
    Front,
    ServerClock,
    database,
    front_end,
    front_ends,
    name_of,
    scratch,
)
from benchmarks.growth import _exchange, _processor_time
from benchmarks.report import Row, compare, format_row, heading, single
from eris import BlockSize, reference_of
from kapla.coap.frame import Code, FrameReader
from kapla.storage.opening import open_backend
from kapla.storage.port import Backend
from kapla.storage.postgresql import generations
from kapla.storage.postgresql.session import Session
from kapla.storage.postgresql.settings import PostgresSettings
from tests.postgres import Server

__all__ = ["run"]

_STORED: Final = {BlockSize.SMALL: 10**6, BlockSize.LARGE: 5 * 10**4}
_PUTS: Final = {BlockSize.SMALL: 20_000, BlockSize.LARGE: 1_500}
_GETS: Final = {BlockSize.SMALL: 30_000, BlockSize.LARGE: 3_000}
_BARS: Final = {
    ("PUT", BlockSize.SMALL): (0.45, 0.7),
    ("GET", BlockSize.SMALL): (0.4, 0.8),
    ("PUT", BlockSize.LARGE): (0.55, 0.8),
    ("GET", BlockSize.LARGE): (0.4, 0.7),
}
_FEW, _MANY = 10**5, 10**7
_BYTES_A_BLOCK: Final = 1300
_SAME: Final = 10_000
_TOGETHER: Final = {"PUT": 512, "GET": 64}
_WINDOW: Final = 64
_READ: Final = b"SELECT pg_prewarm(%s::regclass, 'read')"
_T = TypeVar("_T")

_Figures = dict[tuple[str, str, BlockSize], list[float]]


def run(rounds: int) -> list[Row]:
    """Measure all cases over this many rounds."""
    server = Server(SETTINGS)
    try:
        figures = _against_a_file(server, rounds)
        rows = _rows(figures)
        rows += _two_for_one(server, rounds)
        rows += _the_same_by_four(server)
        rows += _growth(server, rounds)
        _write_constants(server, figures)
        return rows
    finally:
        server.stop()


# --- over a database and over a file


def _against_a_file(server: Server, rounds: int) -> _Figures:
    figures: _Figures = defaultdict(list)
    for size in BlockSize:
        with scratch() as directory, database(server) as url:
            fill_file(directory / "b.sqlite", _STORED[size], size)
            fill_database(url, _STORED[size], size)
            for number in range(rounds + 1):
                # The first round is for caches.
                kept = figures if number else defaultdict(list)
                _take_turns(server, directory, url, size, number, kept)
    return figures


def _take_turns(
    server: Server, directory: Path, url: str, size: BlockSize, number: int, figures: _Figures
) -> None:
    source = random.Random(f"{size} {number}")
    for store, name in ((None, "file"), (url, "database")):
        with front_end(directory, store) as one:
            asked = source.choices(range(_STORED[size]), k=_GETS[size])
            new = [source.randbytes(size) for _ in range(_PUTS[size])]
            for what, frames, good in (
                ("GET", get_frames(asked, size), Code.CONTENT),
                ("PUT", put_frames(new), Code.CREATED),
            ):
                costs = _measured(server, one, frames, good)
                for part, cost in zip(("", " front", " server"), costs, strict=True):
                    figures[name + part, what, size].append(cost)
    with closing(open_backend(PostgresSettings.of(url))) as backend:
        asked = source.choices(range(_STORED[size]), k=_GETS[size])
        new = [source.randbytes(size) for _ in range(_PUTS[size])]
        figures["bare", "GET", size].append(_bare_get(backend, asked))
        figures["bare", "PUT", size].append(_bare_put(backend, new))


def _measured(
    server: Server, front: Front, frames: Sequence[bytes], good: int
) -> tuple[float, float, float]:
    """Requests a second; microseconds of the front's processor time for each, and the server's."""
    clock, before = ServerClock(server), _processor_time(front.process)
    seconds = _exchange(front.connection, frames, good)
    spent = _processor_time(front.process) - before, clock.seconds()
    ours, servers = (part / len(frames) * 1e6 for part in spent)
    return len(frames) / seconds, ours, servers


def _rows(figures: _Figures) -> list[Row]:
    rows = []
    for (what, size), (bar, goal) in _BARS.items():
        here, there = figures["database", what, size], figures["file", what, size]
        fronts = _median(figures["database front", what, size])
        servers = _median(figures["database server", what, size])
        note = f"{fronts:.0f} µs of the front end, {servers:.0f} µs of the server"
        case = f"{what} {size.label}, {_STORED[size]:,} blocks"
        rows.append(
            compare(f"{case}, PostgreSQL / SQLite", here, there, "blocks/s", bar, goal, note=note)
        )
        rows.append(_processors(case, figures, what, size))
        bare = figures["bare", what, size]
        rows.append(compare(f"{case}, front end / bare", here, bare, "blocks/s"))
    return rows


def _processors(case: str, figures: _Figures, what: str, size: BlockSize) -> Row:
    """All that is spent for a block but by the client: what the rates come to on a busy machine."""
    parts = (figures[f"database {part}", what, size] for part in ("front", "server"))
    ours = [front + server for front, server in zip(*parts, strict=True)]
    return compare(
        f"{case}, processor of front end and server / of SQLite's daemon",
        ours,
        figures["file front", what, size],
        "µs",
        at_most=True,
    )


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


# --- without a daemon


def _bare_get(backend: Backend, numbers: Sequence[int]) -> float:
    with closing(backend.reader()) as reader:
        names = [made_up(number) for number in numbers]
        return _rate(names, _TOGETHER["GET"], reader.get_many)


def _bare_put(backend: Backend, blocks: Sequence[bytes]) -> float:
    step = _TOGETHER["PUT"] * BlockSize.SMALL // len(blocks[0])
    with closing(backend.writer()) as writer:

        def put(part: Sequence[bytes]) -> None:
            writer.put_many({reference_of(block): block for block in part})

        return _rate(blocks, step, put)


def _rate(items: Sequence[_T], step: int, work: Callable[[Sequence[_T]], object]) -> float:
    begin = time.perf_counter()
    for start in range(0, len(items), step):
        work(items[start : start + step])
    return len(items) / (time.perf_counter() - begin)


# --- several front ends


def _two_for_one(server: Server, rounds: int) -> list[Row]:
    """What a block costs, two clients asking one front end or two."""
    costs: dict[tuple[str, int], list[float]] = defaultdict(list)
    size = BlockSize.SMALL
    with database(server) as url:
        fill_database(url, _FEW, size)
        for number in range(rounds + 1):
            for count in (1, 2):
                with front_ends(url, count) as running:
                    source = random.Random(f"{count} {number}")
                    asked = [source.choices(range(_FEW), k=_GETS[size] // 2) for _ in range(2)]
                    new = [[source.randbytes(size) for _ in range(_PUTS[size] // 2)] for _ in "12"]
                    gets = [get_frames(part, size) for part in asked]
                    puts = [put_frames(part) for part in new]
                    for what, frames, good in (
                        ("GET", gets, Code.CONTENT),
                        ("PUT", puts, Code.CREATED),
                    ):
                        cost = _cost_together(running, frames, good)
                        if number:
                            costs[what, count].append(cost)
    return [
        compare(
            f"{what} {size.label}, processor of two front ends / one",
            costs[what, 2],
            costs[what, 1],
            "µs",
            1.15,
            at_most=True,
        )
        for what in ("PUT", "GET")
    ]


def _cost_together(running: Sequence[Front], frames: Sequence[list[bytes]], good: int) -> float:
    """Microseconds of all front ends for a block, each client asking in a thread of its own."""
    processes = {front.process for front in running}
    before = sum(map(_processor_time, processes))
    with ThreadPoolExecutor(len(frames)) as threads:
        jobs = [
            threads.submit(_exchange, front.connection, part, good)
            for front, part in zip(running, frames, strict=True)
        ]
        for job in jobs:
            job.result()
    spent = sum(map(_processor_time, processes)) - before
    return spent / sum(map(len, frames)) * 1e6


def _the_same_by_four(server: Server) -> list[Row]:
    """Four front ends get the same blocks at once, each in another order."""
    blocks = [random.Random(number).randbytes(BlockSize.SMALL) for number in range(_SAME)]
    orders = [random.Random(number).sample(blocks, _SAME) for number in range(4)]
    with database(server) as url:
        with front_ends(url, 4, clients=4) as running, ThreadPoolExecutor(4) as threads:
            jobs = [
                threads.submit(_refused, front.connection, put_frames(order))
                for front, order in zip(running, orders, strict=True)
            ]
            errors = sum(job.result() for job in jobs)
        [(deadlocks,)] = server.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()",
            name_of(url),
        )
    case = f"{_SAME:,} blocks put by four front ends at once"
    return [
        single(f"{case}: deadlocks", [float(deadlocks)], "", 0, at_most=True),
        single(f"{case}: answers that are errors", [float(errors)], "", 0, at_most=True),
    ]


def _refused(connection: socket.socket, frames: Sequence[bytes]) -> int:
    """Send PUTs, as many at a time as answers have come; returns how many failed."""
    reader = FrameReader(1 << 20)
    sent = answered = failed = 0
    while answered < len(frames):
        upto = min(answered + _WINDOW, len(frames))
        connection.sendall(b"".join(frames[sent:upto]))
        sent = max(sent, upto)
        for frame in reader.feed(connection.recv(1 << 18)):
            if frame[0] < 0xE0:
                answered += 1
                failed += frame[0] != Code.CREATED
    return failed


# --- many blocks and few


def _growth(server: Server, rounds: int) -> list[Row]:
    many = int(os.environ.get("KAPLA_BENCH_POSTGRESQL", _MANY))
    if shutil.disk_usage(server.directory).free < 2 * many * _BYTES_A_BLOCK:
        print(f"postgresql: no room on the disk for {many:,} blocks", file=sys.stderr)
        return []
    costs: dict[tuple[str, int], list[float]] = defaultdict(list)
    with database(server) as few_url, database(server) as many_url:
        fill_database(few_url, _FEW, BlockSize.SMALL)
        fill_database(many_url, many, BlockSize.SMALL)
        for url in (few_url, many_url):
            server.execute("CREATE EXTENSION pg_prewarm", name_of(url))
        for number in range(rounds + 1):
            for count, url in ((_FEW, few_url), (many, many_url)):
                _read_into_cache(url)
                for what, cost in _costs(url, count, number).items():
                    if number:
                        costs[what, count].append(cost)
    return [
        compare(
            f"{what} {BlockSize.SMALL.label}, {many:,} / {_FEW:,} blocks",
            costs[what, many],
            costs[what, _FEW],
            "µs",
            *((2, 1.3) if many >= _MANY else ()),
            at_most=True,
            note="" if many >= _MANY else f"bars are for {_MANY:,} blocks",
        )
        for what in ("PUT", "GET")
    ]


def _read_into_cache(url: str) -> None:
    """What is asked for is in the page cache, if the machine has that much memory."""
    with closing(Session(PostgresSettings.of(url))) as session:
        for number in session.retried(generations.read).all:
            for part in (f"blocks_{number}", f"blocks_{number}_pkey"):
                session.connection.execute(_READ, (part,))


def _costs(url: str, count: int, number: int) -> dict[str, float]:
    """Microseconds until a block is there, or put."""
    source = random.Random(f"{count} {number}")
    size = BlockSize.SMALL
    asked = source.choices(range(count), k=_GETS[size])
    first = source.choices(range(count), k=_GETS[size] // 2)
    new = [source.randbytes(size) for _ in range(_PUTS[size] // 2)]
    with scratch() as directory, front_end(directory, url) as one:
        # It reads at its start what is known of full generations.
        _exchange(one.connection, get_frames(first, size), Code.CONTENT)
        return {
            "GET": _exchange(one.connection, get_frames(asked, size), Code.CONTENT)
            / len(asked)
            * 1e6,
            "PUT": _exchange(one.connection, put_frames(new), Code.CREATED) / len(new) * 1e6,
        }


# --- what docs/scale.md reckons with


def _write_constants(server: Server, figures: _Figures) -> None:
    rooms, image = scale_measure.rooms(server)
    facts = {
        "machine": f"{os.cpu_count()} cores, PostgreSQL {_version(server)}",
        "room": {
            str(int(size)): {name: round(part, 1) for name, part in asdict(room).items()}
            for size, room in rooms.items()
        },
        "image": round(image),
        "lookup": scale_measure.lookups(server),
        "work": {
            f"{what} {int(size)}": {
                "front": round(_median(figures["database front", what, size]), 1),
                "server": round(_median(figures["database server", what, size]), 1),
            }
            for what, size in _BARS
        },
    }
    scale.CONSTANTS.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    scale.main()


def _version(server: Server) -> str:
    [(version,)] = server.execute("SHOW server_version")
    return str(version).split()[0]


def main() -> None:
    """Print the table."""
    print(heading())
    for row in run(int(sys.argv[1]) if len(sys.argv) > 1 else 5):
        print(format_row(row))


if __name__ == "__main__":
    main()
