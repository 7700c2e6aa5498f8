"""The synchronous door against the coroutines below it: a content of 1 GiB, read in order.

Both read the same content out of one kaplad on a Unix socket, a MiB at a time, with readers that
begin with nothing. They take turns of 64 MiB, so that what else the machine does meets both.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from benchmarks.report import Row, compare, format_row, heading
from benchmarks.wire import kaplad
from eris import ReadCapability
from eris_fs import ContentReader
from kapla.client import RemoteStore
from kapla.doors.sync import open_store
from kapla.loop import Loop

__all__ = ["run"]

_MIB: Final = 1024 * 1024
_SIZE: Final = 1024 * _MIB
_STEP: Final = _MIB
_TURN: Final = 64 * _MIB


def _make_file(path: Path) -> None:
    source = random.Random(1)
    with path.open("wb") as file:
        for _ in range(_SIZE // _MIB):
            file.write(source.randbytes(_MIB))


def _put(url: str, path: Path) -> ReadCapability:
    with open_store(url) as store, path.open("rb") as file:
        return store.put_content(file)


class _Door:
    """One side: the synchronous door."""

    def __init__(self, url: str, capability: ReadCapability) -> None:
        self._store = open_store(url)
        self._file = self._store.open(capability)

    def read(self, size: int) -> None:
        """Read so many bytes more."""
        for _ in range(size // _STEP):
            _check(self._file.read(_STEP))

    def close(self) -> None:
        """Close it."""
        self._store.close()


class _Coroutines:
    """The other: what is below it, in a loop of its own."""

    def __init__(self, url: str, capability: ReadCapability) -> None:
        self._runner = asyncio.Runner(loop_factory=Loop)
        self._at = 0
        self._runner.run(self._open(url, capability))

    async def _open(self, url: str, capability: ReadCapability) -> None:
        self._store = RemoteStore(url)
        await self._store.connect()
        self._reader = ContentReader(self._store, capability)

    def read(self, size: int) -> None:
        """Read so many bytes more."""
        self._runner.run(self._read(size))

    async def _read(self, size: int) -> None:
        for _ in range(size // _STEP):
            _check(await self._reader.read(self._at, _STEP))
            self._at += _STEP

    def close(self) -> None:
        """Close it."""
        self._runner.run(self._close())
        self._runner.close()

    async def _close(self) -> None:
        await self._reader.aclose()
        await self._store.close()


def _check(piece: bytes) -> None:
    if len(piece) != _STEP:
        raise RuntimeError("it ended early")


def _round(url: str, capability: ReadCapability) -> tuple[float, float]:
    """Both read all of it, in turns; MiB/s of the door and of the coroutines."""
    sides = _Door(url, capability), _Coroutines(url, capability)
    times = [0.0, 0.0]
    for turn in range(_SIZE // _TURN):
        # Who begins changes, as what is fetched ahead is still on its way when a turn ends.
        for number in (0, 1) if turn % 2 else (1, 0):
            begin = time.perf_counter()
            sides[number].read(_TURN)
            times[number] += time.perf_counter() - begin
    for side in sides:
        side.close()
    return _SIZE / _MIB / times[0], _SIZE / _MIB / times[1]


def run(rounds: int) -> list[Row]:
    """Measure both over this many rounds."""
    door: list[float] = []
    coroutines: list[float] = []
    with tempfile.TemporaryDirectory(prefix="kb-") as name:
        directory = Path(name)
        _make_file(directory / "content")
        with kaplad(directory) as (url, _, _):
            capability = _put(url, directory / "content")
            (directory / "content").unlink()
            for _ in range(rounds):
                by_door, by_coroutines = _round(url, capability)
                door.append(by_door)
                coroutines.append(by_coroutines)
    return [compare("door for Python / coroutines, 1 GiB", door, coroutines, "MiB/s", 0.9)]


def main() -> None:
    """Print the table."""
    print(heading())
    for row in run(int(sys.argv[1]) if len(sys.argv) > 1 else 5):
        print(format_row(row))


if __name__ == "__main__":
    main()
