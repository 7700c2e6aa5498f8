"""The bytes of a nar, from a server or from a directory that is laid out like one.

aiohttp does the HTTP; it is loaded when the first nar is needed, for a query needs none.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Final

from eris.threads import in_thread
from guix_glue.local.files import open_regular
from guix_glue.servers.nars import NarEnd, NarSource
from guix_glue.servers.proxies import NO_PROXIES, Proxies

if TYPE_CHECKING:
    from guix_glue.servers.http import HttpClient

__all__ = ["NarClient"]

_READ: Final = 256 * 1024


class NarClient:
    """Downloads nars, over connections that are kept from one to the next.

    `leaves_host` tells whether redirects to other hosts are followed.
    """

    def __init__(
        self,
        connect_s: float,
        proxies: Proxies = NO_PROXIES,
        *,
        leaves_host: bool = True,
    ) -> None:
        self._connect_s = connect_s
        self._proxies = proxies
        self._leaves_host = leaves_host
        self._client: HttpClient | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    def stream(self, source: NarSource, nar_size: int, end: NarEnd) -> AsyncGenerator[bytes, None]:
        """Give the bytes as they come, compressed as they are.

        `nar_size` tells where an uncompressed nar ends, if nothing else does. `end` is told how it
        did.
        Raises, when iterated: FetchFailed; OSError.
        """
        if source.path is not None:
            return _read_file(source.path)
        from guix_glue.servers.http import HttpClient
        from guix_glue.servers.nar_stream import nar_pieces

        if self._client is None:
            self._client = HttpClient(
                connect_s=self._connect_s, proxies=self._proxies, leaves_host=self._leaves_host
            )
        return nar_pieces(self._client, source, nar_size, end)


async def _read_file(path: str) -> AsyncGenerator[bytes, None]:
    # Not returned by the thread: if we are cancelled, nobody would get it.
    opened: list[int] = []
    try:
        await in_thread(lambda: opened.append(open_regular(path)))
        while piece := await in_thread(os.read, opened[0], _READ):
            yield piece
    finally:
        for descriptor in opened:
            os.close(descriptor)
