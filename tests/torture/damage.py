"""A file that is damaged while nobody has it open, and what a daemon must make of it.

It may find that it is no store any more, and say so. Else it serves: all questions are answered,
with the right block, with one that whoever asked sees to be wrong, or with none; and whatever is
put then and answered is there, whether it was damaged or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from random import Random

from eris.errors import ErisError
from eris.model import BlockSize, Reference
from kapla.remote_store import RemoteStore
from kapla.urls import parse_store_url
from tests.torture.history import Fault
from tests.torture.processes import GUARD_S

__all__ = ["damage", "put_again"]

_LONGEST = 4096


def damage(path: Path, random: Random) -> None:
    """Garbage in some places."""
    with path.open("r+b") as file:
        size = path.stat().st_size
        for _ in range(random.randrange(1, 4)):
            file.seek(random.randrange(size))
            length = min(random.randrange(1, _LONGEST), size - file.tell())
            file.write(random.randbytes(length))


async def put_again(socket: Path, blocks: Mapping[Reference, bytes]) -> None:
    """Ask for all, put all, and see that what was taken is there. Raises: Fault."""
    url = parse_store_url(f"coap+unix://{socket}")
    async with asyncio.timeout(GUARD_S), RemoteStore(url) as store:
        await _get(store, blocks)
        names = list(blocks)
        results = await asyncio.gather(
            *[store.put(name, blocks[name]) for name in names], return_exceptions=True
        )
        for result in results:
            if result is not None and not isinstance(result, ErisError):
                raise result
        taken = [name for name, result in zip(names, results, strict=True) if result is None]
        found = await _get(store, {name: blocks[name] for name in taken})
        wrong = sum(found[name] != blocks[name] for name in taken)
        if wrong:
            raise Fault(f"{wrong} blocks of a damaged store were put again, answered, and are lost")


async def _get(
    store: RemoteStore, blocks: Mapping[Reference, bytes]
) -> dict[Reference, bytes | ErisError]:
    answers = await asyncio.gather(
        *[store.get(name, BlockSize(len(block))) for name, block in blocks.items()],
        return_exceptions=True,
    )
    found: dict[Reference, bytes | ErisError] = {}
    for name, answer in zip(blocks, answers, strict=True):
        if not isinstance(answer, bytes | ErisError):
            raise answer
        found[name] = answer
    return found
