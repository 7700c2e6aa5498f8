"""The synchronous door against the coroutines below it: a content of 1 GiB, read in order.

Both read the same content out of one kaplad on a Unix socket, a MiB at a time, with readers that
begin with nothing. The rounds alternate, so that what else the machine does meets both.
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


def _make_file(path: Path) -> None:
    source = random.Random(1)
    with path.open("wb") as file:
        for _ in range(_SIZE // _MIB):
            file.write(source.randbytes(_MIB))


def _put(url: str, path: Path) -> ReadCapability:
    with open_store(url) as store, path.open("rb") as file:
        return store.put_content(file)


def _by_door(url: str, capability: ReadCapability) -> float:
    with open_store(url) as store, store.open(capability) as file:
        begin = time.perf_counter()
        size = 0
        while piece := file.read(_STEP):
            size += len(piece)
        return _rate(size, begin)


def _by_coroutines(url: str, capability: ReadCapability) -> float:
    async def read() -> float:
        async with RemoteStore(url) as store, ContentReader(store, capability) as reader:
            await store.connect()
            begin = time.perf_counter()
            size = 0
            while piece := await reader.read(size, _STEP):
                size += len(piece)
            return _rate(size, begin)

    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(read())


def _rate(size: int, begin: float) -> float:
    if size != _SIZE:
        raise RuntimeError("it is not what was put")
    return size / _MIB / (time.perf_counter() - begin)


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
            _by_coroutines(url, capability)  # for caches
            for _ in range(rounds):
                coroutines.append(_by_coroutines(url, capability))
                door.append(_by_door(url, capability))
    return [compare("door for Python / coroutines, 1 GiB", door, coroutines, "MiB/s", 0.9)]


def main() -> None:
    """Print the table."""
    print(heading())
    for row in run(int(sys.argv[1]) if len(sys.argv) > 1 else 5):
        print(format_row(row))


if __name__ == "__main__":
    main()
