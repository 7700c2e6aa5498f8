"""docs/tutorials/python.md, "Trees"."""

import asyncio

import eris_fs
from kapla.client import default_store_urls, open_store


async def main() -> None:
    async with open_store(default_store_urls()) as store:
        capability = await eris_fs.put_tree(store, "notes")

        async with await eris_fs.TreeReader.open(store, capability) as reader:
            for entry in reader.entries(""):
                print(entry.kind.value, entry.name)
            print(await reader.read("today.txt", 0, 9))

        tree = await eris_fs.load_tree(store, capability)
        await eris_fs.get_tree(store, tree, "copy")


asyncio.run(main())
