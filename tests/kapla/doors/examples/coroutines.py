"""The same as coroutines."""

import asyncio

import eris
import eris_fs
from kapla.client import default_store_urls, open_store


async def main() -> bytes:
    async with open_store(default_store_urls()) as store:
        tree = await eris_fs.put_tree(store, "notes")
        async with await eris_fs.TreeReader.open(store, tree) as reader:
            large, guide = await asyncio.gather(
                reader.read("docs/large.bin", 0, 4096),
                reader.read("guide.txt", 0, 4096),
            )
        await eris.put_content(store, large)
        return guide


guide = asyncio.run(main())
assert guide == b"the first line\nthe second\n"
