"""Store URLs as programs give them, text or `StoreUrl`: what is something else is said at once.

    coap+tcp://a coap+tcp://b       two stores, which are tried in order
    coap+tcp://a|coap+tcp://b       a group: one store with two doors

All members of a group have the same blocks and pins, as front ends of one database have: whichever
answers is as good as the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from kapla.errors import InvalidUrl
from kapla.urls import FileEndpoint, HttpEndpoint, StoreUrl, parse_store_url

__all__ = ["GivenUrl", "parse_store_urls", "read_store_url", "read_store_urls"]

GivenUrl = StoreUrl | str
"""Where a store is: `coap+unix:///run/eris.sock`, or the same as it was read."""

_MOST_MEMBERS: Final = 32
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
            urls.append(_parse_group(one))
        except InvalidUrl as error:
            which = f"store URL {number}" if len(texts) > 1 else "store URL"
            raise InvalidUrl(f"{which}: {error}") from None
    if not urls:
        raise InvalidUrl("the list of store URLs is empty")
    return urls


def _parse_group(text: str) -> StoreUrl:
    """Read a store URL, or several that are a group. Raises: InvalidUrl."""
    if "|" not in text:
        return parse_store_url(text)
    texts = text.split("|")
    if len(texts) > _MOST_MEMBERS:
        raise InvalidUrl(f"a group of {len(texts)} stores; there may be {_MOST_MEMBERS}")
    members = [_parse_member(number, one) for number, one in enumerate(texts, 1)]
    first, *others = members
    if any(one.store_path != first.store_path for one in others):
        raise InvalidUrl("the stores of a group have the same path")
    if len(set(members)) < len(members):
        raise InvalidUrl("a store is named twice in its group")
    flags = replace(first.flags, allow=_allowed(members))
    return replace(first, flags=flags, others=tuple(others))


def _parse_member(number: int, text: str) -> StoreUrl:
    try:
        url = parse_store_url(text)
    except InvalidUrl as error:
        raise InvalidUrl(f"store {number} of the group: {error}") from None
    if isinstance(url.endpoint, HttpEndpoint | FileEndpoint):
        raise InvalidUrl(
            f"store {number} of the group: its members are daemons, behind coap+unix://,"
            " coap+tcp:// or coaps+tcp://"
        )
    return url


def _allowed(members: Iterable[StoreUrl]) -> frozenset[str] | None:
    """What all of them allow; None: anything."""
    said = [url.flags.allow for url in members if url.flags.allow is not None]
    return frozenset.intersection(*said) if said else None


def _name(given: object) -> str:
    return "None" if given is None else type(given).__name__
