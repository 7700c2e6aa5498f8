"""Peers that are worse than none, each in a way of its own.

    python -m benchmarks.testbed.hostile KIND ADDRESS PORT CONTENT

`mute` takes connections and never says a word; `stall` says that it has every block and gives none;
`lie` gives wrong bytes of the right length; `drip` gives the blocks of the file CONTENT, a thousand
bytes a second in all. They keep up appearances: all but the first greet, and answer pings. Prints
`ready` once it listens.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Final

from eris import BlockSize, Encoder, Reference
from eris.base32 import parse_base32
from kapla.coap.blocks import pack_bitmap, split_references
from kapla.coap.frame import Code, FrameReader, Message, OptionNumber, format_message, parse_body

__all__ = ["HostilePeer", "Kind", "blocks_of", "serve"]

_GREETING: Final = format_message(Code.CSM, options=[(2, b"\x10\x00\x00"), (4, b"")])
_LONGEST: Final = 1 << 20
_DRIP_S: Final = 0.1
_DRIP_BYTES: Final = 100


class Kind(Enum):
    """In which way a peer is bad."""

    MUTE = "mute"
    STALL = "stall"
    DRIP = "drip"
    LIE = "lie"


class HostilePeer(asyncio.Protocol):
    """One connection to such a peer."""

    def __init__(self, kind: Kind, blocks: Mapping[Reference, bytes]) -> None:
        self._kind = kind
        self._blocks = blocks
        self._reader = FrameReader(_LONGEST)
        self._transport: asyncio.Transport
        self._drops = b""
        self._dripping: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._kind is not Kind.MUTE:
            transport.write(_GREETING)

    def data_received(self, data: bytes) -> None:
        if self._kind is Kind.MUTE:
            return
        for code, token, buffer, start, stop in self._reader.feed(data):
            if code == Code.PING:
                self._send(format_message(Code.PONG, token))
            elif code in (Code.GET, Code.FETCH):
                self._answer(Message(code, token, *parse_body(buffer, start, stop)))

    def connection_lost(self, error: Exception | None) -> None:
        if self._dripping is not None:
            self._dripping.cancel()

    def _answer(self, request: Message) -> None:
        if request.code == Code.FETCH:
            count = len(split_references(request.payload))
            self._reply(request, pack_bitmap([True] * count))
        elif self._kind is Kind.LIE:
            self._reply(request, random.randbytes(_size_of(request)))
        elif self._kind is Kind.DRIP:
            self._drip(request)

    def _reply(self, request: Message, payload: bytes) -> None:
        self._send(format_message(Code.CONTENT, request.token, payload=payload))

    def _send(self, message: bytes) -> None:
        # Behind what is dripping: a message is not sent in the middle of another.
        if self._dripping is None:
            self._transport.write(message)
        else:
            self._drops += message

    def _drip(self, request: Message) -> None:
        [query] = request.values(OptionNumber.URI_QUERY)
        block = self._blocks[Reference(parse_base32(query))]
        self._drops += format_message(Code.CONTENT, request.token, payload=block)
        if self._dripping is None:
            self._drop()

    def _drop(self) -> None:
        self._transport.write(self._drops[:_DRIP_BYTES])
        self._drops = self._drops[_DRIP_BYTES:]
        again = asyncio.get_running_loop().call_later
        self._dripping = again(_DRIP_S, self._drop) if self._drops else None


def _size_of(request: Message) -> int:
    """How long the block is that is asked for: what the asker expects, else a large one."""
    sizes = request.values(OptionNumber.SIZE1)
    return int.from_bytes(sizes[0], "big") if sizes else BlockSize.LARGE


def blocks_of(content: bytes) -> dict[Reference, bytes]:
    """All blocks of a content, as `kapla encode` makes them of a large file."""
    encoder = Encoder(BlockSize.LARGE)
    return dict([*encoder.feed(content), *encoder.finish()])


async def serve(
    kind: Kind, address: str, port: int, content: bytes, ready: Callable[[int], None]
) -> None:
    """Be such a peer until cancelled; `ready` is told the port."""
    blocks = blocks_of(content) if kind is Kind.DRIP else {}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: HostilePeer(kind, blocks), address, port)
    ready(server.sockets[0].getsockname()[1])
    async with server:
        await server.serve_forever()


def main() -> None:
    """Serve as the arguments say."""
    kind, address, port, content = sys.argv[1:5]
    asyncio.run(
        serve(
            Kind(kind),
            address,
            int(port),
            Path(content).read_bytes(),
            lambda at: print(f"ready {at}", flush=True),
        )
    )


if __name__ == "__main__":
    main()
