"""aiocoap's server with some blocks, as a peer that knows no extension: GET and nothing else.

    aiocoap_blocks.py DIRECTORY

Serves the files of a directory, each a block named by its reference in Base32, on a free port of
the loopback, which it prints. Then it prints a line in JSON for each GET: its options by number, as
hexadecimal.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

aiocoap: Any = __import__("aiocoap.resource")
aiocoap_tcp: Any = __import__("aiocoap.transports.tcp", fromlist=["TCPServer"])


class Blocks(aiocoap.resource.Resource):  # type: ignore[misc]
    """The blocks of a directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory

    async def render_get(self, request: Any) -> Any:
        options = [(int(one.number), one.encode().hex()) for one in request.opt.option_list()]
        print(json.dumps(options), flush=True)
        [query] = request.opt.uri_query
        path = self._directory / query
        if not path.exists():
            return aiocoap.Message(code=aiocoap.NOT_FOUND)
        return aiocoap.Message(payload=path.read_bytes())


async def main(directory: Path) -> None:
    site = aiocoap.resource.Site()
    site.add_resource([".well-known", "eris", "blocks"], Blocks(directory))
    # The library takes a port of 0 for its default one; the default can be changed.
    aiocoap_tcp.TCPServer._default_port = 0
    context = await aiocoap.Context.create_server_context(
        site, bind=("127.0.0.1", None), transports=["tcpserver"]
    )
    (interface,) = context.request_interfaces
    server = interface.token_interface.server
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
