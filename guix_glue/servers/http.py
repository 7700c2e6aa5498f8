"""HTTP by way of aiohttp, for nars, and for all that a mirror asks.

Redirects are followed here, by the same rules as for the narinfos of the fetcher: not from https to
http, and to another host without the password. Not all servers say how long a nar is, and some of
these leave the connection open behind it: then the size of the nar tells where it ends.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

import aiohttp
import yarl

from guix_glue.errors import FetchFailed
from guix_glue.formats.compression import Compression
from guix_glue.servers.limits import CONNECT_TIMEOUT_S
from guix_glue.servers.nars import NarSource
from guix_glue.servers.url import REDIRECT_CODES, InvalidServer, origin_of, redirect_target

__all__ = ["get", "nar_pieces", "open_session", "reason_of"]

_READ: Final = 256 * 1024
_REDIRECTS: Final = 5
# Of a server's own words in a message.
_LONGEST_REASON: Final = 60


def open_session(
    *,
    connect_s: float = CONNECT_TIMEOUT_S,
    silence_s: float | None = None,
    total_s: float | None = None,
) -> aiohttp.ClientSession:
    """Connections that are kept; close it. Nothing is unpacked on the way: nars are hashed."""
    return aiohttp.ClientSession(
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": "kapla", "Accept-Encoding": "identity"},
        read_bufsize=_READ,
        timeout=aiohttp.ClientTimeout(total=total_s, sock_connect=connect_s, sock_read=silence_s),
    )


async def get(
    session: aiohttp.ClientSession, url: str, authorization: str | None
) -> aiohttp.ClientResponse:
    """The answer that is no redirect, to be closed.

    Raises: InvalidServer, if redirects lead where none may; aiohttp.ClientError; ValueError;
    TimeoutError.
    """
    for _ in range(1 + _REDIRECTS):
        response = await session.get(
            yarl.URL(url, encoded=True),
            headers={"Authorization": authorization} if authorization else None,
            allow_redirects=False,
        )
        if response.status not in REDIRECT_CODES:
            return response
        response.close()
        host, path = redirect_target(url, response.headers.get("Location", ""))
        if host != origin_of(url):
            authorization = None
        url = f"{host.scheme}://{host.netloc}{path}"
    raise InvalidServer("the server redirects again and again")


async def nar_pieces(
    session: aiohttp.ClientSession, source: NarSource, nar_size: int
) -> AsyncGenerator[bytes, None]:
    """The bytes of a nar as they come, compressed as they are.

    `nar_size` tells where an uncompressed nar ends, if nothing else does.
    Raises: FetchFailed.
    """
    try:
        async with await get(session, source.url, source.authorization) as response:
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
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise FetchFailed(reason_of(error)) from error


def reason_of(error: Exception) -> str:
    """What may be told of an error: aiohttp's own texts hold whole URLs."""
    if isinstance(error, InvalidServer):
        return str(error)
    if isinstance(error, aiohttp.ClientResponseError) and error.status:
        return f"status {error.status}"
    system = getattr(error, "os_error", error)
    return f"connection failed: {getattr(system, 'strerror', None) or type(error).__name__}"
