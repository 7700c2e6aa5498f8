"""Requests to one server of HTTP, by aiohttp's client, within bounds for all that it may do.

Connections are kept and bounded in number. Nothing is decoded: encodings are not asked for, and an
answer that has one is refused. Redirects are followed three times at most, from http to https and
never back, and what is POSTed stays with its host: else a server could have us send requests that
change something to whatever is near us. No cookies are kept, and no password is looked up anywhere.

Silence is bounded by `timeout_s`. So is the way to each step of the answer, since a byte now and
then is not silence: see `Answer.progressed`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin, urlsplit

from eris.errors import StoreUnavailable
from eris.model import BlockSize
from kapla.errors import CannotConnect, StoreSilent
from kapla.http.asking.failures import ConnectionLost
from kapla.http.asking.proxies import choose_proxy
from kapla.uninstalled import explain

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

__all__ = ["MOST_CONNECTIONS", "Answer", "Exchange"]

MOST_CONNECTIONS: Final = 16
"""To one server, and requests under way at it."""
_MOST_REDIRECTS: Final = 3
_REDIRECTS: Final = (301, 302, 303, 307, 308)
# A block has at least 64 s longer than silence may last: some bytes a second are as good as none.
_SLOWEST: Final = 512
_STEP_S: Final = BlockSize.LARGE / _SLOWEST
# What an error page may have, for its connection to be used again.
_MOST_SKIPPED: Final = 4096


class Answer:
    """An answer whose body is still to be read."""

    def __init__(self, response: ClientResponse, limit: asyncio.Timeout, step_s: float) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._limit = limit
        self._step_s = step_s
        self.progressed()

    @property
    def length(self) -> int | None:
        """How long the body is, if that is told."""
        return self._response.content_length

    @property
    def is_page(self) -> bool:
        """Whether it is something for people to read."""
        return self._response.content_type.startswith("text/")

    def progressed(self) -> None:
        """There was a step forward, such as a block: the next one has its time from now."""
        self._limit.reschedule(asyncio.get_running_loop().time() + self._step_s)

    async def read(self, most: int) -> bytes:
        """The whole body, or its first `most` bytes and some more, if it is longer."""
        received = bytearray()
        async for piece in self.pieces():
            received += piece
            if len(received) > most:
                break
        return bytes(received)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it comes, in pieces of bounded size."""
        async for piece in self._response.content.iter_any():
            yield piece


class Exchange:
    """Requests to the server at `origin`, whose name for people is `name`."""

    def __init__(
        self, origin: str, name: str, *, timeout_s: float, connect_timeout_s: float
    ) -> None:
        self._origin = origin
        self._name = name
        self._timeout_s = timeout_s
        self._connect_timeout_s = connect_timeout_s
        self._places = asyncio.Semaphore(MOST_CONNECTIONS)
        self._session: ClientSession | None = None
        self._is_closed = False

    @asynccontextmanager
    async def ask(
        self, method: str, target: str, *, body: bytes | None = None, accept: str = "*/*"
    ) -> AsyncIterator[Answer]:
        """Send a request, and follow where it leads; what is not read of the answer is dropped.

        Raises: StoreUnavailable, of a kind that says what came between.
        """
        headers = {"Accept": accept, "Accept-Encoding": "identity"}
        place = self._origin + target
        async with self._places:
            with self._reasons():
                # Until the head of the answer is there, its redirects included.
                async with asyncio.timeout(self._connect_timeout_s + self._timeout_s) as limit:
                    for _ in range(1 + _MOST_REDIRECTS):
                        with self._names():
                            response = await self._send(method, place, headers, body)
                        try:
                            if response.status not in _REDIRECTS:
                                self._check_encoding(response)
                                yield Answer(response, limit, self._timeout_s + _STEP_S)
                                await _skip_rest(response)
                                return
                            location = response.headers.get("Location", "")
                            place = self._next_place(place, location, stays=body is not None)
                            await _skip_rest(response)
                        finally:
                            # What was read to its end leaves the connection to the next request.
                            response.close()
                    raise StoreUnavailable(
                        f"{self._name} redirects more than {_MOST_REDIRECTS} times"
                    )

    async def close(self) -> None:
        """End all connections, for good."""
        self._is_closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _send(
        self, method: str, place: str, headers: Mapping[str, str], body: bytes | None
    ) -> ClientResponse:
        from yarl import URL

        url = URL(place, encoded=True)
        assert url.host is not None and url.port is not None
        proxy = choose_proxy(url.scheme, url.host, url.port)
        more: dict[str, Any] = {}
        if proxy is not None:
            more["proxy"] = proxy.url
            if proxy.authorization is not None:
                more["proxy_headers"] = {"Proxy-Authorization": proxy.authorization}
                if url.scheme == "http":
                    # Without a tunnel the proxy is who reads the request.
                    headers = {**headers, "Proxy-Authorization": proxy.authorization}
        session = self._opened()
        if url.scheme == "https":
            more["ssl"] = await _web_context()
        return await session.request(
            method, url, headers=headers, data=body, allow_redirects=False, **more
        )

    def _opened(self) -> ClientSession:
        if self._is_closed:
            raise StoreUnavailable(f"the connection to {self._name} was closed")
        if self._session is None:
            # Loaded by those who need it.
            import aiohttp

            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=MOST_CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=self._connect_timeout_s, sock_read=self._timeout_s
                ),
                auto_decompress=False,
                headers={"User-Agent": "kapla"},
            )
        return self._session

    def _check_encoding(self, response: ClientResponse) -> None:
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ("identity", ""):
            raise StoreUnavailable(f"{self._name} answers in an encoding that was not asked for")

    def _next_place(self, place: str, location: str, *, stays: bool) -> str:
        """Where a redirect leads. `stays`: it has to be at the same host."""
        try:
            before, after = urlsplit(place), urlsplit(urljoin(place, location))
            is_upgrade = (before.scheme, after.scheme) == ("http", "https")
            is_good = after.hostname and "@" not in after.netloc and location.isprintable()
            _ = after.port
        except ValueError:
            is_upgrade = is_good = False
        if not location or not is_good or not (is_upgrade or before.scheme == after.scheme):
            raise StoreUnavailable(f"{self._name} redirects to where it is not followed")
        if stays and after.hostname != before.hostname:
            raise StoreUnavailable(f"{self._name} redirects what is sent to another host")
        return after._replace(fragment="").geturl()

    @contextmanager
    def _names(self) -> Iterator[None]:
        """Names that no host can have: there are several ways in which the library raises then."""
        import aiohttp

        try:
            yield
        except aiohttp.ClientConnectorError:
            # One that tells of a certificate is a ValueError, too.
            raise
        except ValueError as error:
            raise StoreUnavailable(
                f"{self._name} cannot be asked: it, its proxy, or where it redirects to has a name"
                " that no host can have"
            ) from error

    @contextmanager
    def _reasons(self) -> Iterator[None]:
        """Errors of the library as ours, that it is not there included."""
        try:
            import aiohttp
        except ModuleNotFoundError as error:
            raise StoreUnavailable(f"{self._name}: {explain(error) or error}") from error
        try:
            yield
        except aiohttp.ConnectionTimeoutError as error:
            seconds = f"{self._connect_timeout_s:g} s"
            raise StoreUnavailable(f"no connection to {self._name} within {seconds}") from error
        except TimeoutError as error:
            raise StoreSilent(f"{self._name} did not answer for {self._timeout_s:.0f} s") from error
        except aiohttp.ClientHttpProxyError as error:
            raise StoreUnavailable(f"the proxy for {self._name} answers {error.status}") from error
        except aiohttp.ClientConnectorError as error:
            is_proxy = isinstance(error, aiohttp.ClientProxyConnectionError)
            where = f"the proxy for {self._name}" if is_proxy else self._name
            raise CannotConnect(where, _connect_reason(error), number=error.errno) from error
        except aiohttp.ClientResponseError as error:
            raise StoreUnavailable(f"{self._name} does not speak HTTP as it should") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionLost(f"the connection to {self._name} is lost") from error


async def _skip_rest(response: ClientResponse) -> None:
    """Read a short rest, so that the connection can be used again."""
    length = response.content_length
    if length is None or length <= _MOST_SKIPPED or response.content.is_eof():
        left = _MOST_SKIPPED
        async for piece in response.content.iter_any():
            left -= len(piece)
            if left < 0:
                break


def _connect_reason(error: Any) -> str:
    from kapla.identity.failures import tls_reason

    inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", error)
    number = getattr(inner, "errno", None)
    return (
        tls_reason(inner)
        or (os.strerror(number) if isinstance(number, int) and number > 0 else None)
        or getattr(inner, "strerror", None)
        or "it was broken off"
    )


_contexts: list[Any] = []


async def _web_context() -> Any:
    """What TLS is spoken with: made once, beside the event loop, as it reads the system's CAs."""
    if not _contexts:
        from kapla.identity.contexts import web_context

        _contexts.append(await asyncio.to_thread(web_context))
    return _contexts[0]
