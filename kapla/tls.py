"""TLS as URLs ask for it: with the key, or the certificates, that they name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from kapla.identity.connecting import connect_tls
from kapla.identity.contexts import Context, client_context, server_context
from kapla.identity.pair import KeyPair, load
from kapla.urls import StoreUrl, TlsEndpoint

__all__ = ["connect", "listener_context"]


def listener_context(url: StoreUrl, pair: KeyPair | None) -> Context:
    """For a listener: with the files that its URL names, else by key, with `pair`.

    Raises: ConfigError.
    """
    return server_context(None if url.flags.files else pair, url.flags.files)


async def connect(
    url: StoreUrl,
    make: Callable[[], asyncio.Protocol],
    *,
    pair: KeyPair | None = None,
    next_address_s: float | None = None,
    interface: str | None = None,
) -> None:
    """Connect a protocol to whoever the URL names; `pair`: who we are, if the URL does not say.

    `interface`: by which one alone it is reached; then the URL has an address.
    Files are read each time: a certificate may have been renewed.
    Raises: ConfigError; OSError, which may be of TLS; TimeoutError.
    """
    endpoint = url.endpoint
    assert isinstance(endpoint, TlsEndpoint)
    context = _client_context(url, endpoint, pair)
    await connect_tls(
        make,
        endpoint.host,
        endpoint.port,
        context,
        next_address_s=next_address_s,
        interface=interface,
    )


def _client_context(url: StoreUrl, endpoint: TlsEndpoint, pair: KeyPair | None) -> Context:
    files = url.flags.files
    if endpoint.key is not None:
        given: Path | None = None if files is None else files.key
        return client_context(pair if given is None else load(given), endpoint.key)
    if files is None:
        return client_context(None, None)
    shown = files if files.certificate is not None else None
    return client_context(None, None, files.ca, files=shown)
