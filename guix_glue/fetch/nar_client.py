"""The bytes of a nar, from a server or from a directory that is laid out like one.

aiohttp does the HTTP; it is loaded when the first nar is needed, for a query needs none. Redirects
are followed here, by the same rules as for narinfos: not from https to http, and to another host
without the password. Not all servers say how long a nar is, and some of these leave the connection
open behind it: then the size of the nar tells where it ends.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Final

from eris.threads import in_thread
from guix_glue.errors import FetchFailed
from guix_glue.fetch.sources import NarSource
from guix_glue.formats.compression import Compression
from guix_glue.local.files import open_regular
from guix_glue.servers.url import (
    REDIRECT_CODES,
    InvalidServer,
    origin_of,
    redirect_target,
)

if TYPE_CHECKING:
    import aiohttp

__all__ = ["NarClient"]

_READ: Final = 256 * 1024
_REDIRECTS: Final = 5
# Of a server's own words in a message.
_LONGEST_REASON: Final = 60


class NarClient:
    """Downloads nars, over connections that are kept from one to the next."""

    def __init__(self, connect_s: float) -> None:
        self._connect_s = connect_s
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def stream(self, source: NarSource, nar_size: int) -> AsyncGenerator[bytes, None]:
        """Give the bytes as they come, compressed as they are.

        `nar_size` tells where an uncompressed nar ends, if nothing else does.
        Raises: FetchFailed; OSError.
        """
        if source.path is not None:
            async for piece in _read_file(source.path):
                yield piece
            return
        import aiohttp

        try:
            async with await self._get(source) as response:
                if response.status != 200:
                    reason = (response.reason or "")[:_LONGEST_REASON]
                    raise FetchFailed(f'{response.status}, "{reason}"')
                endless = response.content_length is None and source.compression is Compression.NONE
                async for piece in response.content.iter_any():
                    yield piece
                    nar_size -= len(piece)
                    if endless and nar_size <= 0:
                        response.close()
                        return
        except (aiohttp.ClientError, ValueError) as error:
            raise FetchFailed(_reason(error)) from error

    async def _get(self, source: NarSource) -> aiohttp.ClientResponse:
        """The answer that is no redirect.

        Raises: FetchFailed, ValueError, aiohttp.ClientError.
        """
        import yarl

        url, authorization = source.url, source.authorization
        for _ in range(1 + _REDIRECTS):
            response = await self._opened().get(
                yarl.URL(url, encoded=True),
                headers={"Authorization": authorization} if authorization else None,
                allow_redirects=False,
            )
            if response.status not in REDIRECT_CODES:
                return response
            response.close()
            try:
                host, path = redirect_target(url, response.headers.get("Location", ""))
            except InvalidServer as error:
                raise FetchFailed(str(error)) from None
            if host != origin_of(url):
                authorization = None
            url = f"{host.scheme}://{host.netloc}{path}"
        raise FetchFailed("the server redirects again and again")

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "kapla", "Accept-Encoding": "identity"},
                read_bufsize=_READ,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_s),
            )
        return self._session


def _reason(error: Exception) -> str:
    """The kind of an error, and what the system says: aiohttp's own texts hold whole URLs."""
    system = getattr(error, "os_error", None)
    if isinstance(system, OSError) and system.strerror:
        return f"connection failed: {system.strerror}"
    return f"connection failed: {type(error).__name__}"


async def _read_file(path: str) -> AsyncGenerator[bytes, None]:
    descriptor = await in_thread(open_regular, path)
    try:
        while piece := await in_thread(os.read, descriptor, _READ):
            yield piece
    finally:
        os.close(descriptor)
