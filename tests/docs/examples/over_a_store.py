"""docs/tutorials/python.md, "Over a store"."""

import asyncio
from pathlib import Path

import eris
from kapla.client import default_store_urls, open_store


async def keep(store: eris.BlockWriter, photo: Path) -> eris.ReadCapability:
    with photo.open("rb") as file:
        return await eris.put_content(store, file)


async def head_of(store: eris.BlockReader, capability: eris.ReadCapability) -> bytes:
    return await eris.read_content(store, capability, 0, 16)


async def main() -> None:
    async with open_store(default_store_urls()) as store:
        capability = await keep(store, Path("photo.jpg"))
        print(await head_of(store, capability))


asyncio.run(main())
