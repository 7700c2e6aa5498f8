"""Files of trees by path and offset, out of a real daemon, which may go and come back."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import eris_fs
from eris import StoreUnavailable
from eris_fs import TreeReader
from kapla.client import RemoteStore
from kapla.urls import parse_store_url
from tests.integration.daemon import GUARD_S, running_daemon

READERS = 16


def lay_out(root: Path) -> dict[str, bytes]:
    """Files that pack well, files that do not, and many small ones."""
    source = random.Random(5)
    files = {f"small/{number:03}": source.randbytes(number * 30) for number in range(120)}
    files |= {"noise": source.randbytes(4_000_000), "text": b"all the same " * 400_000}
    (root / "small").mkdir(parents=True)
    for path, content in files.items():
        (root / path).write_bytes(content)
    return files


async def read_at_random(reader: TreeReader, files: dict[str, bytes], seed: int) -> None:
    source = random.Random(seed)
    for _ in range(8):
        path = source.choice(["noise", "text", f"small/{source.randrange(120):03}"])
        offset, length = source.randrange(len(files[path]) + 1), source.choice([4096, 300_000])
        content = await reader.read(path, offset, length)
        assert content == files[path][offset : offset + length]


async def read_in_order(reader: TreeReader, files: dict[str, bytes], path: str) -> None:
    content = b""
    while part := await reader.read(path, len(content), 131_072):
        content += part
    assert content == files[path]


def test_readers_of_a_daemon_that_is_restarted(tmp_path: Path) -> None:
    files = lay_out(tmp_path / "tree")
    sizes = {path.split("/")[1]: len(files[path]) for path in files if "/" in path}

    async def run() -> None:
        with running_daemon() as daemon:
            async with RemoteStore(parse_store_url(f"coap+unix://{daemon.socket}")) as store:
                trees = [
                    await eris_fs.put_tree(store, tmp_path / "tree"),
                    await eris_fs.put_packed_tree(store, tmp_path / "tree", level=1),
                ]
                readers = [await TreeReader.open(store, tree, cache_size=4 << 20) for tree in trees]
                for reader in readers:
                    assert await reader.sizes("small") == sizes
                    await asyncio.gather(
                        *(read_at_random(reader, files, seed) for seed in range(READERS)),
                        read_in_order(reader, files, "noise"),
                        read_in_order(reader, files, "text"),
                    )
                daemon.kill()
                for reader in readers:
                    try:
                        await read_in_order(reader, files, "noise")
                    except StoreUnavailable:
                        continue
                    raise AssertionError("a cache of 4 MiB cannot hold 4 MB")
                daemon.start()
                for reader in readers:
                    await read_in_order(reader, files, "noise")
                    await reader.aclose()

    asyncio.run(asyncio.wait_for(run(), 4 * GUARD_S))
