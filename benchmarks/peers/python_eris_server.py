"""A python-eris store in memory behind aiocoap's TCP server; prints its port, runs until killed."""

import asyncio
import socket
from typing import Any

import aiocoap
import aiocoap.resource

# An untyped package, whose name is that of ours.
python_eris_coap: Any = __import__("eris.coap", fromlist=["coap"])


class DictStore:
    """Blocks in a dict: nothing faster is possible behind that server."""

    def __init__(self) -> None:
        self.blocks: dict[bytes, bytes] = {}

    async def get(self, ref: bytes, block_size: int = 0) -> bytes | None:
        return self.blocks.get(ref)

    async def put(self, ref: bytes, block: bytes) -> None:
        self.blocks[ref] = block


async def main() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    site = aiocoap.resource.Site()
    python_eris_coap.add_store_resources(site, DictStore())
    await aiocoap.Context.create_server_context(
        site, bind=("127.0.0.1", port), transports=["tcpserver"]
    )
    print(port, flush=True)
    await asyncio.get_running_loop().create_future()


asyncio.run(main())
