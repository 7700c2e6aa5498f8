"""A server that answers whatever bytes a test wants, and a proxy: both on loopback, by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

__all__ = ["Asked", "Reply", "answering", "plain", "proxying"]


class Asked:
    """A request: its first line, its headers in small letters, its body, and where more comes."""

    def __init__(
        self, line: str, headers: dict[str, str], body: bytes, reader: asyncio.StreamReader
    ) -> None:
        self.method, self.target, _ = line.split(" ", 2)
        self.headers = headers
        self.body = body
        self.reader = reader


Reply = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


def plain(status: int, body: bytes = b"", **headers: str) -> bytes:
    """A whole answer; `_` in the names of headers stands for `-`."""
    lines = [f"HTTP/1.1 {status} So", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@asynccontextmanager
async def answering(reply: Reply) -> AsyncIterator[int]:
    """Answer each request of each connection so, until the connection is closed; gives the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while asked := await _read(reader):
                await reply(asked, writer)
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async with _served(serve) as port:
        yield port


@asynccontextmanager
async def proxying(port: int, asked: list[Asked]) -> AsyncIterator[int]:
    """A proxy that leads everywhere to one port here, and notes what it was asked."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await _read(reader)
        if request is None:
            return
        asked.append(request)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        if request.method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Go on\r\n\r\n")
        else:
            path = "/" + request.target.split("/", 3)[3]
            lines = [f"{request.method} {path} HTTP/1.1", "Connection: close"]
            lines += [f"{name}: {value}" for name, value in request.headers.items()]
            far_writer.write("\r\n".join([*lines, "", ""]).encode() + request.body)
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))

    async with _served(serve) as own:
        yield own


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    line, *fields = head.strip().split("\r\n")
    headers = {}
    for field in fields:
        name, _, value = field.partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Asked(line, headers, body, reader)


@asynccontextmanager
async def _served(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    tasks: set[asyncio.Task[None]] = set()

    async def noted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with suppress(asyncio.CancelledError):
            await serve(reader, writer)

    server = await asyncio.start_server(noted, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
