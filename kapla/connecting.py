"""Connecting a protocol to whatever a URL names: a Unix socket, TCP, TLS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from eris.errors import StoreUnavailable
from kapla.errors import CannotConnect
from kapla.identity.failures import tls_reason
from kapla.urls import HttpEndpoint, StoreUrl, TlsEndpoint, UnixEndpoint

if TYPE_CHECKING:
    from kapla.identity.pair import KeyPair

__all__ = ["connect"]

_NEXT_ADDRESS_S: Final = 0.25
"""After RFC 8305, section 5."""
# Until the next try where the daemon has no place in its queue.
_QUEUE_FULL_S: Final = 0.05
# Between looks whether a daemon that is starting listens.
_STARTING_S: Final = 0.05
_ERRNO: Final = re.compile(r"\[Errno (\d+)\]")


async def connect(
    url: StoreUrl,
    make: Callable[[], asyncio.Protocol],
    timeout_s: float,
    pair: KeyPair | None = None,
    interface: str | None = None,
) -> None:
    """Connect what `make` makes; `pair`: who we are, where keys count and the URL does not say.

    `interface`: by which one alone it is reached, if the URL is of TLS and has an address.
    Raises: StoreUnavailable; ConfigError, about files that the URL names.
    """
    endpoint = url.endpoint
    try:
        async with asyncio.timeout(timeout_s):
            await _connect(url, make, pair, interface)
    except TimeoutError:
        raise StoreUnavailable(f"no connection to {url} within {timeout_s:g} s") from None
    except (OSError, UnicodeError) as error:  # a host name can be impossible to encode
        path = endpoint.path if isinstance(endpoint, UnixEndpoint) else None
        number, reason = _reason(error)
        raise CannotConnect(str(url), reason, number=number, socket=path) from error


async def _connect(
    url: StoreUrl,
    make: Callable[[], asyncio.Protocol],
    pair: KeyPair | None,
    interface: str | None,
) -> None:
    loop = asyncio.get_running_loop()
    endpoint = url.endpoint
    if isinstance(endpoint, UnixEndpoint):
        connected = await _connect_unix(endpoint.path)
        await loop.create_unix_connection(make, sock=connected)
    elif isinstance(endpoint, TlsEndpoint):
        # Loaded by those who need it.
        from kapla import tls

        await tls.connect(url, make, pair=pair, next_address_s=_NEXT_ADDRESS_S, interface=interface)
    else:
        assert not isinstance(endpoint, HttpEndpoint)  # no protocol of ours is spoken there
        # An address that swallows what is sent to it does not hide the next one.
        await loop.create_connection(
            make, endpoint.host, endpoint.port, happy_eyeballs_delay=_NEXT_ADDRESS_S
        )


async def _connect_unix(path: Path) -> socket.socket:
    """Connect; where a daemon of this user is starting, as soon as it listens.

    Raises: OSError.
    """
    while True:
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            return await _connect_once(str(path))
        # Loaded by those who find nothing.
        from kapla.soon import is_starting

        if not is_starting(path):
            # It may have begun to listen while we looked.
            return await _connect_once(str(path))
        await asyncio.sleep(_STARTING_S)


async def _connect_once(path: str) -> socket.socket:
    """Connect; while the daemon's queue is full, again and again: asyncio takes that for success.

    Raises: OSError.
    """
    connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)
        while True:
            try:
                connecting.connect(path)
                return connecting
            except BlockingIOError:
                # Nothing announces that there is a place again.
                await asyncio.sleep(_QUEUE_FULL_S)
    except BaseException:
        connecting.close()
        raise


def _reason(error: OSError | UnicodeError) -> tuple[int | None, str]:
    """Why a connection was not made, without the addresses that asyncio puts in."""
    if (reason := tls_reason(error)) is not None:
        return None, reason
    number = getattr(error, "errno", None)
    # Of several addresses asyncio tells all that happened in one text.
    numbers = {number} if number else {int(one) for one in _ERRNO.findall(str(error))}
    if not numbers or min(numbers) <= 0:  # a resolver has numbers of its own
        return None, getattr(error, "strerror", None) or str(error) or "it was broken off"
    reasons = sorted(os.strerror(one) for one in numbers)
    return numbers.pop() if len(numbers) == 1 else None, ", ".join(reasons)
