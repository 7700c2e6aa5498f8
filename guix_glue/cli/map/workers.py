"""The processes that `kapla map build` has encode items: started once, and fed with many."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from eris.errors import StoreUnavailable
from eris.threads import settle
from guix_glue.maps.building import NotEncoded
from guix_glue.publish.tree_formats import PackedTrees, TreeFormat

__all__ = ["PIN_PREFIX", "Worker", "workers"]

PIN_PREFIX: Final = "kapla-map/"
"""What the pins of items begin with that are put into a store; then comes the name of the item."""

_MODULE: Final = "guix_glue.cli.map.worker"
_END_S: Final = 10.0
"""How long a worker may take to end what it is at, until it is killed."""
_LONGEST: Final = 65536


@asynccontextmanager
async def workers(
    count: int, trees: TreeFormat, store_url: str | None = None, *, lend: bool = False
) -> AsyncIterator[Sequence[Worker]]:
    """So many processes that encode for one format, until the end of the context.

    Without a store URL they compute URNs alone. Raises: OSError.
    """
    level = trees.level if isinstance(trees, PackedTrees) else None
    settings = json.dumps(
        {"level": level, "store_url": store_url or "", "lend": lend, "prefix": PIN_PREFIX}
    )
    async with AsyncExitStack() as stack:
        started = []
        for _ in range(count):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", _MODULE),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_LONGEST,
            )
            worker = Worker(process, settings)
            stack.push_async_callback(worker.close)
            started.append(worker)
        yield started


class Worker:
    """One process, which answers in the order in which it is asked."""

    def __init__(self, process: asyncio.subprocess.Process, settings: str) -> None:
        assert process.stdin is not None and process.stdout is not None
        self._process = process
        self._input, self._output = process.stdin, process.stdout
        self._waiting: deque[asyncio.Future[bytes]] = deque()
        self._input.write(settings.encode() + b"\0")
        self._reading = asyncio.create_task(self._read())

    async def encode(self, location: str) -> str:
        """See `ItemEncoder`. Raises: NotEncoded; StoreUnavailable, if its store or itself fails."""
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if self._reading.done():
            raise StoreUnavailable("a process that encodes has ended")
        self._waiting.append(answered)
        self._input.write(os.fsencode(location) + b"\0")
        line = (await answered).decode("utf-8", "replace").rstrip("\n")
        match line[:1]:
            case "=":
                return line[2:]
            case "!":
                raise NotEncoded(line[2:])
            case "?":
                raise StoreUnavailable(line[2:])
        raise StoreUnavailable("a process that encodes has ended")

    async def close(self) -> None:
        """End it: it ends with its input, or is made to."""
        self._input.close()
        for one in self._waiting:
            one.cancel()
        try:
            async with asyncio.timeout(_END_S if not self._waiting else 0.1):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        self._reading.cancel()
        await settle(self._reading)

    async def _read(self) -> None:
        while line := await self._output.readline():
            one = self._waiting.popleft()
            if not one.done():
                one.set_result(line)
        while self._waiting:
            one = self._waiting.popleft()
            if not one.done():
                one.set_result(b"")
