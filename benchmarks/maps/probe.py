"""Looks items of a map up, in a process of its own: on whichever side of a link it is started.

Arguments: a store URL, and a file with the map's URN and then a hash part in each line. The
connection is open before the first look-up. Prints seconds as JSON: of the first, and of each later
one.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from eris import ReadCapability, encode
from guix_glue.maps.blocks import BlockMap
from kapla.client import default_store_urls, open_store

__all__: list[str] = []


async def _run(url: str, urn: str, hash_parts: list[str]) -> list[float]:
    taken = []
    async with open_store(default_store_urls(url)) as store:
        await store.connect()
        # The cipher is loaded when it is used first, which has nothing to do with maps.
        encode(b"")
        one = BlockMap(store, ReadCapability.from_urn(urn))
        for hash_part in hash_parts:
            begin = time.perf_counter()
            if await one.find(hash_part) is None:
                raise RuntimeError("an item is not found")
            taken.append(time.perf_counter() - begin)
        await one.close()
    return taken


if __name__ == "__main__":
    urn, *hash_parts = Path(sys.argv[2]).read_text().split()
    print(json.dumps(asyncio.run(_run(sys.argv[1], urn, hash_parts))))
