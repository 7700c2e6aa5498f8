"""A server's map: `GET /map/HASH` for one item, and `/map.urn` for the whole, as blocks.

What is answered is nobody's word, as all of a map is. What is asked tells the server which items
are wanted, as asking for narinfos does.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import aiohttp

from eris.capability import ReadCapability
from eris.errors import InvalidCapability
from eris.store import BlockReader
from guix_glue.errors import FetchFailed
from guix_glue.formats.item_map import Contents
from guix_glue.formats.store_path import check_hash_part
from guix_glue.maps.blocks import BlockMap
from guix_glue.maps.port import UnlistedMap
from guix_glue.servers.http import HttpClient, network_failure
from guix_glue.servers.proxies import NO_PROXIES, Proxies
from guix_glue.servers.url import Server

__all__ = ["ServedMap", "ServedUrn"]

_ANSWER_S: Final = 10.0
_LARGEST_URN: Final = 256
_FRESH_S: Final = 3600.0
"""A URN is asked for anew after this: servers write their maps hourly."""


class _Client:
    """Asks a server for URNs, over connections that are opened when it is asked first."""

    def __init__(self, server: Server, proxies: Proxies) -> None:
        self._server = server
        self._proxies = proxies
        self._http: HttpClient | None = None

    async def urn(self, path: str) -> str | None:
        """The URN at a path; None if there is nothing.

        Raises: FetchFailed; InvalidServer.
        """
        if self._http is None:
            self._http = HttpClient(proxies=self._proxies)
        try:
            async with asyncio.timeout(_ANSWER_S):
                reply = await self._http.get(
                    f"{self._server.url}{path}", self._server.authorization
                )
                async with reply:
                    if reply.status in (404, 410):
                        return None
                    if reply.status != 200:
                        raise self._http.failure_of(reply)
                    data = await _read(reply.content)
        except TimeoutError:
            raise FetchFailed("the server does not answer in time") from None
        except (aiohttp.ClientError, OSError) as error:
            raise network_failure(error) from error
        try:
            return ReadCapability.from_urn(data.decode("ascii", "replace").strip()).to_urn()
        except InvalidCapability:
            raise FetchFailed("what the server answers is no URN") from None

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()


async def _read(content: aiohttp.StreamReader) -> bytes:
    """What there is, however it comes, as far as it can be a URN."""
    data = b""
    while len(data) < _LARGEST_URN and (more := await content.read(_LARGEST_URN - len(data))):
        data += more
    return data


class ServedMap:
    """A server that is asked for each item."""

    def __init__(self, server: Server, proxies: Proxies = NO_PROXIES) -> None:
        self._client = _Client(server, proxies)

    async def find(self, hash_part: str) -> str | None:
        """See `Map`."""
        return await self._client.urn(f"/map/{check_hash_part(hash_part)}")

    async def load(self) -> Contents:
        """See `Map`."""
        raise UnlistedMap

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()


class ServedUrn:
    """A server whose map is read as blocks, wherever these come from.

    `server` is what stands before `/map.urn`.
    """

    def __init__(self, server: Server, store: BlockReader, proxies: Proxies = NO_PROXIES) -> None:
        self._client = _Client(server, proxies)
        self._store = store
        self._asking = asyncio.Lock()
        self._urn: str | None = None
        self._map: BlockMap | None = None
        # The one before that, in which somebody may still look.
        self._before: BlockMap | None = None
        self._until = 0.0

    async def find(self, hash_part: str) -> str | None:
        """See `Map`."""
        return await (await self._current()).find(hash_part)

    async def load(self) -> Contents:
        """See `Map`."""
        return await (await self._current()).load()

    async def close(self) -> None:
        """Close its connections, and give up what is under way."""
        await self._client.close()
        for one in (self._map, self._before):
            if one is not None:
                await one.close()

    async def _current(self) -> BlockMap:
        async with self._asking:
            if self._map is not None and time.monotonic() < self._until:
                return self._map
            try:
                urn = await self._client.urn("/map.urn")
            except FetchFailed:
                # The one from before is better than none.
                if self._map is None:
                    raise
                urn = self._urn
            if urn is None:
                raise FetchFailed("the server has no map")
            if self._map is None or urn != self._urn:
                done, self._before = self._before, self._map
                self._map, self._urn = BlockMap(self._store, ReadCapability.from_urn(urn)), urn
                if done is not None:
                    await done.close()
            self._until = time.monotonic() + _FRESH_S
            return self._map
