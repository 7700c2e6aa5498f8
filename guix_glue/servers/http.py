"""HTTP by way of aiohttp, for nars, and for all that a mirror asks.

Redirects are followed here, by the same rules as for the narinfos of the fetcher: not from https to
http, and to another host without the password. Whatever goes wrong is an error of ours, in words
without URLs, which aiohttp's own texts hold.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import aiohttp
import yarl

from guix_glue.errors import FetchFailed, NoConnection, ProtocolError, TemporaryFailure
from guix_glue.servers.failures import status_failure, system_words
from guix_glue.servers.limits import CONNECT_TIMEOUT_S
from guix_glue.servers.proxies import NO_PROXIES, Proxies, Proxy
from guix_glue.servers.url import (
    REDIRECT_CODES,
    InvalidServer,
    Origin,
    parse_url,
    redirect_target,
)

__all__ = ["HttpClient", "network_failure", "read_body"]

_READ: Final = 256 * 1024
_REDIRECTS: Final = 5
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


class HttpClient:
    """Connections that are kept; close it. How long an answer may take is for whoever reads it.

    `leaves_host` tells whether redirects to other hosts are followed.
    """

    def __init__(
        self,
        *,
        connect_s: float = CONNECT_TIMEOUT_S,
        proxies: Proxies = NO_PROXIES,
        leaves_host: bool = True,
    ) -> None:
        self._proxies = proxies
        self._leaves_host = leaves_host
        self._tls: ssl.SSLContext | None = None
        # Nothing is unpacked on the way: nars are hashed.
        self._session = aiohttp.ClientSession(
            # How many there are is bounded by whoever asks. A limit here would let those who ask a
            # server that is there wait for those whose server is not.
            connector=aiohttp.TCPConnector(limit=0),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "kapla", "Accept-Encoding": "identity"},
            read_bufsize=_READ,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_s),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def get(
        self, url: str, authorization: str | None, headers: Mapping[str, str] = _NONE
    ) -> aiohttp.ClientResponse:
        """The answer that is no redirect, whatever its status, to be closed.

        Raises: FetchFailed; TemporaryFailure; InvalidServer, if redirects lead where none may.
        """
        origin, path = parse_url(url)
        for _ in range(1 + _REDIRECTS):
            response = await self._request(origin, path, authorization, headers)
            if response.status not in REDIRECT_CODES:
                return response
            response.close()
            location = response.headers.get("Location", "")
            target, path = redirect_target(f"{origin.url}{path}", location)
            if target != origin:
                if not self._leaves_host:
                    raise InvalidServer("the server redirects to another one")
                authorization = None
            origin = target
        raise InvalidServer("the server redirects again and again")

    def answered_by(self, response: aiohttp.ClientResponse) -> Proxy | None:
        """The proxy that gave an answer, its own or the server's; None if it is the server's."""
        origin, _ = parse_url(str(response.url))
        return self._proxies.choose(origin) if origin.scheme == "http" else None

    def failure_of(self, response: aiohttp.ClientResponse) -> FetchFailed:
        """The error that an answer is which brings nothing."""
        retry_after = response.headers.get("Retry-After", "")
        return status_failure(response.status, retry_after, self.answered_by(response))

    async def _request(
        self, origin: Origin, path: str, authorization: str | None, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        proxy = self._proxies.choose(origin)
        own = {"Authorization": authorization} if authorization else {}
        try:
            return await self._session.get(
                yarl.URL(f"{_base(origin, proxy)}{path}", encoded=True),
                headers={"Host": origin.netloc, **headers, **own, **_secret(origin, proxy)},
                allow_redirects=False,
                **self._way(origin, proxy),
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise network_failure(error, proxy) from error

    def _way(self, origin: Origin, proxy: Proxy | None) -> dict[str, Any]:
        """What aiohttp is to be told of the connection."""
        secure = {origin.scheme, proxy.origin.scheme if proxy else ""} & {"https"}
        way: dict[str, Any] = {"ssl": self._context()} if secure else {}
        if proxy is not None:
            return {
                **way,
                "proxy": yarl.URL(proxy.origin.url),
                "proxy_headers": _authorization(proxy),
            }
        return {**way, "server_hostname": origin.name} if secure else way

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls


def _base(origin: Origin, proxy: Proxy | None) -> str:
    """The beginning of a URL: with a zone as sockets have it, or, for a proxy, without."""
    if proxy is not None:
        return f"{origin.scheme}://{origin.netloc}"
    return origin.url.replace("%25", "%")


def _secret(origin: Origin, proxy: Proxy | None) -> Mapping[str, str]:
    """What goes with a request that the proxy itself reads."""
    return _authorization(proxy) if proxy is not None and origin.scheme == "http" else _NONE


def _authorization(proxy: Proxy) -> Mapping[str, str]:
    return {"Proxy-Authorization": proxy.authorization} if proxy.authorization else _NONE


async def read_body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """A whole body, of at most `limit` bytes.

    Raises: FetchFailed; ProtocolError, if it is longer.
    """
    body = bytearray()
    try:
        async for piece in response.content.iter_any():
            body += piece
            if len(body) > limit:
                raise ProtocolError(f"an answer of more than {limit} bytes")
    except (aiohttp.ClientError, OSError) as error:
        raise network_failure(error) from error
    return bytes(body)


def network_failure(error: Exception, proxy: Proxy | None = None) -> FetchFailed:
    """The error of ours for one of aiohttp."""
    who = "" if proxy is None else f"{proxy.shown}: "
    match error:
        case aiohttp.ClientHttpProxyError(status=status) if proxy is not None:
            return status_failure(status, "", proxy, tunnel=True)
        case aiohttp.ClientConnectorCertificateError(certificate_error=ssl.SSLError() as cause):
            return FetchFailed(system_words(cause))
        case aiohttp.ClientSSLError(os_error=cause):
            return FetchFailed(system_words(cause))
        case aiohttp.ClientConnectorError(os_error=cause):
            return NoConnection(who + system_words(cause))
        case aiohttp.ConnectionTimeoutError():
            return NoConnection(f"{who}no connection in time")
        case aiohttp.ClientResponseError():
            return FetchFailed("the server's answer is no HTTP")
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError():
            return TemporaryFailure("the connection was lost")
        case aiohttp.InvalidURL():
            return FetchFailed("the URL cannot be asked for")
        case TimeoutError():
            return TemporaryFailure(f"{who}no answer in time")
        case OSError():
            return TemporaryFailure(who + system_words(error))
        case _:
            return FetchFailed(f"connection failed: {type(error).__name__}")
