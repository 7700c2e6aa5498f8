"""Servers of blocks on loopback, for tests: N2R with batches or without, and a gateway of IPFS.

The gateway is a stranger: it is written from the specification of trustless gateways alone and
knows nothing of Kapla, down to how a CID is read.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

from aiohttp import web

__all__ = ["Blocks", "Gateway", "Resolver", "serving"]

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Blocks:
    """Blocks by reference, and what was asked."""

    def __init__(self, blocks: Iterable[bytes] = ()) -> None:
        self.blocks: dict[bytes, bytes] = {}
        self.asked: list[str] = []
        """Method and path of each request."""
        for block in blocks:
            self.add(block)

    def add(self, block: bytes) -> None:
        self.blocks[hashlib.blake2b(block, digest_size=32).digest()] = block


class Resolver(Blocks):
    """N2R, and batches if `has_batch`; `lends`: it says that what it gives is lent."""

    def __init__(
        self, blocks: Iterable[bytes] = (), *, has_batch: bool = True, lends: bool = False
    ) -> None:
        super().__init__(blocks)
        self._has_batch = has_batch
        self._headers = {"Kapla-Lent": "1"} if lends else {}
        self.batches: list[int] = []
        """How many blocks each POST asked for."""

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        if request.method == "POST" and request.path.endswith("/kapla/blocks") and self._has_batch:
            return await self._batch(request)
        if not request.path.endswith("/uri-res/N2R"):
            raise web.HTTPNotFound
        if request.method not in ("GET", "HEAD"):
            raise web.HTTPMethodNotAllowed(request.method, ["GET", "HEAD"])
        kind, letters = request.query_string[:12], request.query_string[12:]
        if kind != "urn:blake2b:" or len(letters) != 52:
            raise web.HTTPBadRequest
        block = self.blocks.get(base64.b32decode(letters + "===="))
        if block is None:
            raise web.HTTPNotFound
        return web.Response(body=block, headers=self._headers)

    async def _batch(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        self.batches.append(len(body) // 32)
        response = web.StreamResponse(
            headers={"Content-Type": "application/octet-stream", **self._headers}
        )
        await response.prepare(request)
        for start in range(0, len(body), 32):
            block = self.blocks.get(body[start : start + 32])
            await response.write(b"\x00" if block is None else b"\x01" + block)
        await response.write_eof()
        return response


class Gateway(Blocks):
    """A trustless gateway: raw blocks by CID, and nothing decoded."""

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        if request.method not in ("GET", "HEAD"):
            raise web.HTTPMethodNotAllowed(request.method, ["GET", "HEAD"])
        empty, ipfs, cid, *path = request.path.split("/")
        if (empty, ipfs, path) != ("", "ipfs", []):
            raise web.HTTPNotFound
        accepted = request.headers.get("Accept", "")
        if request.query.get("format") != "raw" and "application/vnd.ipld.raw" not in accepted:
            # A gateway that decodes nothing has nothing else to give.
            raise web.HTTPNotAcceptable
        if cid == "bafkqaaa":
            return self._raw(cid, b"")
        block = self.blocks.get(self._hash_in(cid))
        if block is None:
            raise web.HTTPNotFound
        return self._raw(cid, block)

    def _hash_in(self, cid: str) -> bytes:
        if not cid.startswith("b") or cid != cid.lower():
            raise web.HTTPBadRequest
        letters = cid[1:].upper()
        data = base64.b32decode(letters + "=" * (-len(letters) % 8))
        # CIDv1, raw, blake2b-256 of 32 bytes.
        if data[:6] != bytes([0x01, 0x55, 0xA0, 0xE4, 0x02, 0x20]) or len(data) != 38:
            raise web.HTTPBadRequest
        return data[6:]

    def _raw(self, cid: str, block: bytes) -> web.Response:
        return web.Response(
            body=block,
            headers={
                "Content-Type": "application/vnd.ipld.raw",
                "Content-Disposition": f'attachment; filename="{cid}.bin"',
                "Cache-Control": "public, max-age=29030400, immutable",
                "Etag": f'"{cid}.raw"',
                "X-Content-Type-Options": "nosniff",
            },
        )


@asynccontextmanager
async def serving(handler: Handler, port: int = 0) -> AsyncIterator[int]:
    """Serve with this on loopback; gives the port."""
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
