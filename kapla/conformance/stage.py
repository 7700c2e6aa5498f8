"""What checks work on: the store, connections to it, and the blocks that are known to be there.

Two blocks of the official vectors, one of each size, are the ones that are asked for: they are put
before the first check, or, where nothing may be put, looked for.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from eris.base32 import format_base32
from eris.crypto import reference_of
from eris.errors import StoreUnavailable
from eris.model import BlockSize
from kapla.coap.blocks import blocks_path
from kapla.coap.frame import Code, Message, Option, OptionNumber, encode_uint, format_message
from kapla.conformance.model import Failed, Seen, Skipped, format_code, words
from kapla.conformance.transcript import Transcript
from kapla.conformance.vectors import KNOWN, read_vector
from kapla.conformance.wire import Wire
from kapla.connecting import connect
from kapla.errors import NotAllowed
from kapla.urls import StoreUrl, TlsEndpoint

__all__ = ["CSM", "Stage"]

_MAX_MESSAGE_SIZE: Final = 1 << 20
CSM: Final = format_message(Code.CSM, options=[(2, encode_uint(_MAX_MESSAGE_SIZE)), (4, b"")])
"""As most clients greet: Max-Message-Size of 1 MiB, and Block-Wise-Transfer."""


class Stage:
    """A store that is checked."""

    def __init__(self, url: StoreUrl, *, read_only: bool, wait_s: float) -> None:
        self.url = url
        self.read_only = read_only
        self.wait_s = wait_s
        """How long one answer is waited for."""
        self.path: list[Option] = [
            (OptionNumber.URI_PATH, part.encode()) for part in blocks_path(url.store_path)
        ]
        self.written = 0
        """Bytes of blocks that were sent to be stored."""
        self.asked = 0
        """How many requests the store sent to us."""
        self._secrets = [part.encode() for part in url.store_path]
        self._there: dict[BlockSize, bytes] = {}
        self._open: list[Wire] = []
        self._transcript = Transcript(self._secrets)

    @property
    def is_tls(self) -> bool:
        """Whether there is no half of a connection."""
        return isinstance(self.url.endpoint, TlsEndpoint)

    # connections

    async def connect(self, csm: bytes = CSM) -> Wire:
        """A new connection, on which `csm` was sent, which may be nothing or anything.

        It is one of this scene. Raises: Failed.
        """
        wire = await self._connect(self._transcript)
        self._open.append(wire)
        if csm:
            await wire.send(csm)
        return wire

    async def outsider(self) -> Wire:
        """A new connection that belongs to no scene; whoever has it closes it. Raises: Failed."""
        wire = await self._connect(Transcript())
        await wire.send(CSM)
        return wire

    async def _connect(self, transcript: Transcript) -> Wire:
        wire = Wire(transcript, self.wait_s)
        try:
            await connect(self.url, lambda: wire, self.wait_s)
        except StoreUnavailable as error:
            raise Failed(str(error)) from None
        return wire

    @asynccontextmanager
    async def scene(self) -> AsyncIterator[None]:
        """One check: connections that are made in it end with it."""
        self._transcript = Transcript(self._secrets)
        try:
            yield
        finally:
            self.asked += sum(wire.asked for wire in self._open)
            for wire in self._open:
                wire.close()
            self._open.clear()

    def transcript(self) -> tuple[Seen, ...]:
        """What was sent and seen in the last scene."""
        return self._transcript.lines()

    # requests

    def get_bytes(self, token: bytes, query: bytes, more: list[Option] | None = None) -> bytes:
        """A GET with this query; `more`: options behind it."""
        options = [*self.path, (OptionNumber.URI_QUERY, query), *(more or ())]
        return format_message(Code.GET, token, options)

    def put_bytes(self, token: bytes, block: bytes, more: list[Option] | None = None) -> bytes:
        """A PUT of a block; `more`: options behind the path."""
        self.written += len(block)
        return format_message(Code.PUT, token, [*self.path, *(more or ())], block)

    async def get(self, wire: Wire, query: bytes, more: list[Option] | None = None) -> Message:
        """Ask for a block; returns the answer. Raises: Failed."""
        token = wire.token()
        await wire.send(self.get_bytes(token, query, more))
        return await wire.response(token)

    async def put(self, wire: Wire, block: bytes, more: list[Option] | None = None) -> Message:
        """Put a block; returns the answer. Raises: Failed."""
        token = wire.token()
        await wire.send(self.put_bytes(token, block, more))
        return await wire.response(token)

    async def ask(
        self, wire: Wire, code: int, options: list[Option], payload: bytes = b""
    ) -> Message:
        """Any other request; returns the answer. Raises: Failed."""
        token = wire.token()
        await wire.send(format_message(code, token, options, payload))
        return await wire.response(token)

    # blocks

    def fresh(self, size: int) -> bytes:
        """A block that no store has yet."""
        return os.urandom(size)

    def known(self, size: BlockSize = BlockSize.SMALL) -> bytes:
        """A block that is there.

        Raises: Skipped, if there is none.
        """
        block = self._there.get(size)
        if block is None:
            vector = KNOWN[size]
            raise Skipped(f"the store does not have the block of vector {vector:02d}")
        return block

    async def prepare(self) -> None:
        """Put the blocks that will be asked for, or see whether they are there.

        Raises: NotAllowed, if the store takes no blocks; StoreUnavailable, if there is none.
        """
        await self._greet()
        for size, number in KNOWN.items():
            (block,) = read_vector(number).blocks.values()
            async with self.scene():
                with suppress(Failed):  # the checks will tell
                    await self._prepare(size, block)

    async def _greet(self) -> None:
        """See whether there is anybody, and any CoAP: else no check would make sense."""
        wire = Wire(self._transcript, self.wait_s)
        await connect(self.url, lambda: wire, self.wait_s)
        try:
            await wire.send(CSM)
            await wire.greeted()
        except Failed as failed:
            raise StoreUnavailable(f"{self.url} does not greet as CoAP has it: {failed}") from None
        finally:
            wire.close()

    async def _prepare(self, size: BlockSize, block: bytes) -> None:
        wire = await self.connect()
        if not self.read_only:
            answer = await self.put(wire, block)
            if answer.code in (Code.FORBIDDEN, Code.METHOD_NOT_ALLOWED, Code.NOT_FOUND):
                told = f"{format_code(answer.code)}{words(answer.payload)}"
                if answer.code == Code.NOT_FOUND:
                    told += ", there may be no store at this path"
                raise NotAllowed(
                    f"{self.url} takes no blocks here: {told}; --read-only checks the rest"
                )
        query = format_base32(reference_of(block)).encode()
        answer = await self.get(wire, query)
        if answer.code == Code.CONTENT:
            self._there[size] = block

    async def serves(self, wire: Wire | None = None) -> str:
        """Whether others are served: asks on `wire`, or a connection of its own.

        Raises: Failed.
        """
        wire = wire or await self.connect()
        block = self._there.get(BlockSize.SMALL)
        reference = bytes(32) if block is None else reference_of(block)
        answer = await self.get(wire, format_base32(reference).encode())
        if answer.code != (Code.NOT_FOUND if block is None else Code.CONTENT):
            raise Failed(f"it answers {format_code(answer.code)}{words(answer.payload)}")
        return "served"
