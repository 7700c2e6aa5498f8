"""README.md, "In Python", but for what needs a daemon."""

# The page is short: its files are closed when the program ends.
# ruff: noqa: ASYNC230, SIM115
import asyncio

import eris


async def main() -> None:
    store = eris.MemoryStore()
    capability = await eris.put_content(store, open("photo.jpg", "rb"))
    content = await eris.get_content(store, capability)

    assert content == open("photo.jpg", "rb").read()

    import eris_fs

    capability = await eris_fs.put_tree(store, "notes")  # or put_packed_tree
    tree = await eris_fs.load_tree(store, capability)  # paths to entries, without contents
    await eris_fs.get_tree(store, tree, "copy")  # "copy" must not exist

    async with await eris_fs.TreeReader.open(store, capability) as reader:  # any place, any order
        sizes = await reader.sizes("")
        head = await reader.read("guide.txt", 0, 4096)

    assert sizes["guide.txt"] == len(head)


asyncio.run(main())
