"""A stranger on the local network: announces what he likes, and notes all that comes to him.

    impostor.py ADDRESS OUTSIDE KEY

He is at ADDRESS, and at OUTSIDE, which is in another network; KEY is that of somebody else. For
each way to lie he has a port of his own. He prints a line when all is announced; then he answers
each line of standard input with a JSON object: for each way how many connections were made, and the
bytes that came, under TLS only those that it let through.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys

from kapla.coap.frame import Code, FrameReader, format_message
from kapla.identity.contexts import server_context
from kapla.identity.pair import KeyPair
from kapla.lan.neighbourhood import Neighbourhood
from kapla.lan.service import COAP, COAPS, Service

_TEXTS = {"rt": "eris.blocks", "path": "/.well-known/eris", "v": "1"}


class Port:
    """Notes what comes; says that it has nothing, to whoever takes it for a daemon."""

    def __init__(self) -> None:
        self.connections = 0
        self.data = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(format_message(Code.CSM, options=[(2, b"\x10\x00\x00"), (4, b"")]))
            frames = FrameReader(1 << 20)
            while data := await reader.read(4096):
                self.data += data
                for code, token, *_ in frames.feed(data):
                    if code in (Code.GET, Code.FETCH):
                        writer.write(format_message(Code.NOT_FOUND, token))
        except OSError:
            pass
        finally:
            writer.close()


class Counted:
    """Counts connections on their way to a port, before any TLS: a plain relay to it."""

    def __init__(self, port: Port, inner: int) -> None:
        self._port = port
        self._inner = inner

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._port.connections += 1
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._inner)
        await asyncio.gather(_pass(reader, inner_writer), _pass(inner_reader, writer))


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(4096):
            writer.write(data)
    except OSError:
        pass
    finally:
        writer.close()


async def _port_of(server: asyncio.Server) -> int:
    return int(server.sockets[0].getsockname()[1])


async def main(address: str, outside: str, others_key: str) -> None:
    pair = KeyPair.generate()
    context = server_context(pair, None)
    own, random = str(pair.public), str(KeyPair.generate().public)
    ways: dict[str, tuple[str, dict[str, str], str, ssl.SSLContext | None]] = {
        "plain": (COAP, {**_TEXTS, "pk": own}, address, None),
        "keyless": (COAPS, _TEXTS, address, context),
        "of somebody else": (COAPS, {**_TEXTS, "pk": others_key}, address, context),
        "of nobody": (COAPS, {**_TEXTS, "pk": random}, address, context),
        "outside": (COAPS, {**_TEXTS, "pk": own}, outside, context),
        "\u202e honest": (COAPS, {**_TEXTS, "pk": own}, address, context),
    }
    ports: dict[str, Port] = {}
    neighbourhood = Neighbourhood()
    await neighbourhood.start()
    services, servers = [], []
    for name, (kind, texts, where, tls) in ways.items():
        port = ports[name] = Port()
        inner = await asyncio.start_server(port.serve, "127.0.0.1", 0, ssl=tls)
        relay = Counted(port, await _port_of(inner))
        outer = await asyncio.start_server(relay.serve, "0.0.0.0", 0)
        servers += [inner, outer]
        services.append(Service(kind, name, await _port_of(outer), texts, (where,)))
    await asyncio.gather(*(neighbourhood.announce(one) for one in services))
    print("announced", flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        told = {name: (port.connections, port.data.hex()) for name, port in ports.items()}
        print(json.dumps(told), flush=True)
    await neighbourhood.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
