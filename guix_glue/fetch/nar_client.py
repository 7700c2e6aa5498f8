"""The bytes of a nar, from a server or from a directory that is laid out like one.

aiohttp does the HTTP; it is loaded when the first nar is needed, for a query needs none.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Final

from eris.threads import in_thread
from guix_glue.local.files import open_regular
from guix_glue.servers.nars import NarSource

if TYPE_CHECKING:
    import aiohttp

__all__ = ["NarClient"]

_READ: Final = 256 * 1024


class NarClient:
    """Downloads nars, over connections that are kept from one to the next."""

    def __init__(self, connect_s: float) -> None:
        self._connect_s = connect_s
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def stream(self, source: NarSource, nar_size: int) -> AsyncGenerator[bytes, None]:
        """Give the bytes as they come, compressed as they are.

        `nar_size` tells where an uncompressed nar ends, if nothing else does.
        Raises, when iterated: FetchFailed; OSError.
        """
        if source.path is not None:
            return _read_file(source.path)
        from guix_glue.servers.http import nar_pieces, open_session

        if self._session is None:
            self._session = open_session(connect_s=self._connect_s)
        return nar_pieces(self._session, source, nar_size)


async def _read_file(path: str) -> AsyncGenerator[bytes, None]:
    file = _File()
    try:
        await in_thread(file.open, path)
        while piece := await in_thread(file.read, _READ):
            yield piece
    finally:
        file.close()


class _File:
    """Has the descriptor, also when whoever waited for it to be opened was cancelled."""

    def __init__(self) -> None:
        self._descriptor: int | None = None

    def open(self, path: str) -> None:
        """Open a regular file. Raises: OSError."""
        self._descriptor = open_regular(path)

    def read(self, size: int) -> bytes:
        """The next bytes, none at the end."""
        assert self._descriptor is not None
        return os.read(self._descriptor, size)

    def close(self) -> None:
        """Close it, if it was opened."""
        if self._descriptor is not None:
            os.close(self._descriptor)
