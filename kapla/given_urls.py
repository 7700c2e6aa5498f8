"""Store URLs as programs give them, text or `StoreUrl`: what is something else is said at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from kapla.errors import InvalidUrl
from kapla.urls import StoreUrl, parse_store_url

__all__ = ["GivenUrl", "parse_store_urls", "read_store_url", "read_store_urls"]

GivenUrl = StoreUrl | str
"""Where a store is: `coap+unix:///run/eris.sock`, or the same as it was read."""

_EXAMPLE: Final = '"coap+unix:///run/eris.sock"'


def read_store_url(given: GivenUrl) -> StoreUrl:
    """Read what is to be one store URL.

    Raises: InvalidUrl, which is a ValueError; TypeError, for what is neither text nor a StoreUrl.
    """
    if isinstance(given, StoreUrl):
        return given
    if not isinstance(given, str):
        raise TypeError(f"a store URL is text, as {_EXAMPLE}, not {_name(given)}")
    urls = parse_store_urls(given)
    if len(urls) > 1:
        raise InvalidUrl(f"this is the URL of one store, and {len(urls)} are given")
    return urls[0]


def read_store_urls(given: GivenUrl | Iterable[GivenUrl]) -> tuple[StoreUrl, ...]:
    """Read one store URL, or several: a list, or one text with spaces between them.

    Raises: InvalidUrl, also where there is none; TypeError.
    """
    if isinstance(given, str):
        return tuple(parse_store_urls(given))
    if isinstance(given, StoreUrl):
        return (given,)
    # Both can be gone through, and neither holds URLs.
    if isinstance(given, bytes | bytearray) or not isinstance(given, Iterable):
        raise TypeError(f"store URLs are text, as {_EXAMPLE}, or a list of it, not {_name(given)}")
    urls = tuple(read_store_url(one) for one in given)
    if not urls:
        raise InvalidUrl("the list of store URLs is empty")
    return urls


def parse_store_urls(text: str) -> list[StoreUrl]:
    """Read the store URLs in a text, with spaces between them.

    Raises: InvalidUrl, which tells which of several is wrong.
    """
    urls = []
    texts = text.split()
    for number, one in enumerate(texts, 1):
        try:
            urls.append(parse_store_url(one))
        except InvalidUrl as error:
            which = f"store URL {number}" if len(texts) > 1 else "store URL"
            raise InvalidUrl(f"{which}: {error}") from None
    if not urls:
        raise InvalidUrl("the list of store URLs is empty")
    return urls


def _name(given: object) -> str:
    return "None" if given is None else type(given).__name__
