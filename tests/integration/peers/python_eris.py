"""python-eris, in its own environment, as the tests' opposite: a client, or a server with a store.

    python_eris.py URL      works on the store at URL
    python_eris.py serve    serves a store of its own on a free port, and works on that

Each line on standard input is a request in JSON, answered by one line. Bytes are written in
hexadecimal. Started as a script, it sees the `eris` of its own interpreter, never ours.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

# Untyped packages; one has the name of ours.
aiocoap: Any = __import__("aiocoap.resource")
aiocoap_tcp: Any = __import__("aiocoap.transports.tcp", fromlist=["TCPServer"])
python_eris: Any = __import__("eris.coap")


async def answer(store: Any, request: dict[str, Any]) -> object:
    """Do what one request says."""
    match request["do"]:
        case "put":
            await store.put(bytes.fromhex(request["reference"]), bytes.fromhex(request["block"]))
            return True
        case "get":
            block = await store.get(bytes.fromhex(request["reference"]), request["block_size"])
            return block.hex() if block else None
        case "encode":
            encoder = python_eris.Encoder(bytes(32), store=store, block_size=request["block_size"])
            await encoder.write(bytes.fromhex(request["content"]))
            return str(await encoder.close())
        case "decode":
            return (await python_eris.Decoder(store, request["urn"]).readall()).hex()
        case other:
            raise ValueError(other)


async def serve(store: Any) -> tuple[Any, int]:
    """Open a server on a free port of the loopback."""
    site = aiocoap.resource.Site()
    python_eris.coap.add_store_resources(site, store)
    # The library takes a port of 0 for its default one; the default can be changed.
    aiocoap_tcp.TCPServer._default_port = 0
    context = await aiocoap.Context.create_server_context(
        site, bind=("127.0.0.1", None), transports=["tcpserver"]
    )
    (interface,) = context.request_interfaces
    return context, interface.token_interface.server.sockets[0].getsockname()[1]


async def main(where: str) -> None:
    context = None
    if where == "serve":
        store = python_eris.DictStore()
        context, port = await serve(store)
        print(json.dumps(port), flush=True)
    else:
        store = python_eris.coap.Store(where)
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            try:
                result = await answer(store, json.loads(line))
            except Exception as error:
                result = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(result), flush=True)
    finally:
        await store.close()
        if context is not None:
            await context.shutdown()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
