"""A delta, made of two directories and applied to a tree in the store."""

import asyncio
import shutil
from contextlib import aclosing
from pathlib import Path

import eris_fs
from eris import BlockReader, BlockWriter, ReadCapability
from kapla.client import default_store_urls, open_store


async def make(store: BlockWriter) -> ReadCapability:
    with eris_fs.DirectoryFiles("notes") as old, eris_fs.DirectoryFiles("newer") as new:
        put = await eris_fs.put_delta(store, old, new)
    return put.capability


async def apply(store: BlockReader, delta: ReadCapability, base: ReadCapability) -> None:
    tree = await eris_fs.load_tree(store, base)
    async with (
        eris_fs.StoredFiles(store, tree) as old,
        eris_fs.open_delta(store, delta, old) as opened,
        aclosing(opened.files()) as files,
    ):
        await eris_fs.get_files(opened.outline, files, "newer-again")


async def main() -> None:
    async with open_store(default_store_urls()) as store:
        base = await eris_fs.put_tree(store, "notes")
        await apply(store, await make(store), base)


shutil.copytree("notes", "newer", symlinks=True)
Path("newer/guide.txt").write_text("other lines\n")
asyncio.run(main())
assert Path("newer-again/guide.txt").read_text() == "other lines\n"
