"""How each setting is read, from what TOML or a text has; each raises ValueError."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from kapla.errors import InvalidUrl
from kapla.guessing import meant
from kapla.urls import (
    FileEndpoint,
    HttpEndpoint,
    StoreUrl,
    TlsEndpoint,
    UnixEndpoint,
    parse_store_url,
)

__all__ = ["parse_choice", "parse_count", "parse_switch", "parse_urls"]

_MOST_LISTENERS: Final = 64


def parse_urls(value: object) -> tuple[StoreUrl, ...]:
    """Read the URLs of listeners: a list, or a text with spaces between them."""
    texts = value.split() if isinstance(value, str) else value
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise ValueError("a list of URLs is expected")
    if len(texts) > _MOST_LISTENERS:
        raise ValueError(f"{len(texts)} URLs; there may be {_MOST_LISTENERS}")
    urls = []
    for number, text in enumerate(texts, 1):
        try:
            urls.append(_listener(text))
        except ValueError as error:
            raise ValueError(f"URL {number}: {error}") from None
    return tuple(urls)


def _listener(text: str) -> StoreUrl:
    try:
        url = parse_store_url(text)
    except InvalidUrl as error:
        raise ValueError(str(error)) from None
    if isinstance(url.endpoint, FileEndpoint):
        raise ValueError("nobody listens at a file: the setting store says which one is served")
    if isinstance(url.endpoint, HttpEndpoint):
        raise ValueError(
            "a listener speaks CoAP, on coap+unix:// or coap+tcp://; HTTP has the setting http"
        )
    if url.store_path:
        raise ValueError("a listener serves the whole endpoint, not a path")
    if not isinstance(url.endpoint, UnixEndpoint) and (url.flags.mode or url.flags.group):
        raise ValueError("mode and group are for Unix sockets")
    if isinstance(url.endpoint, TlsEndpoint):
        if url.endpoint.key is not None:
            raise ValueError("a listener has its own key, see --print-key")
        if url.flags.files is not None and url.flags.files.certificate is None:
            raise ValueError("ca is for listeners with cert and key")
    return url


def parse_choice(*choices: str) -> Callable[[object], str]:
    """Make a reader of one of some words."""

    def parse(value: object) -> str:
        if value not in choices:
            guess = meant(value, choices) if isinstance(value, str) else ""
            raise ValueError(f"expected one of {', '.join(choices)}{guess}")
        return str(value)

    return parse


def parse_switch(value: object) -> bool:
    """Read true or false, which are texts in the environment."""
    texts = {"true": True, "false": False}
    if isinstance(value, str):
        value = texts.get(value)
    if not isinstance(value, bool):
        raise ValueError("true or false is expected")
    return value


def parse_count(value: object) -> int:
    """Read a number from 1 to 100,000."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,6}", value):
        value = int(value)
    # A truth is a number too, to Python.
    if type(value) is not int or not 1 <= value <= 100_000:
        raise ValueError("a number from 1 to 100000 is expected")
    return value
