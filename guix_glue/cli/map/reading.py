"""Maps as arguments of a command, opened with a store if one of them is in blocks."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

from guix_glue.cli.maps import open_named
from kapla.cli.common import connect

if TYPE_CHECKING:
    from guix_glue.formats.item_map import Contents
    from guix_glue.maps.port import Map

__all__ = ["hash_part_given", "loaded", "opened"]

_URNS: Final = ("urn:", "@")


@asynccontextmanager
async def opened(texts: Sequence[str], store_url: str | None) -> AsyncIterator[list[Map]]:
    """The maps, until the end of the context.

    Raises: what opening raises: see `open_named`; NoStore, InvalidUrl.
    """
    from guix_glue.servers.proxies import Proxies

    proxies = Proxies.from_environ(os.environ)
    async with AsyncExitStack() as stack:
        store = None
        if any(map(_is_in_blocks, texts)):
            store = await stack.enter_async_context(connect(store_url))
        maps: list[Map] = []
        for text in texts:
            maps.append(await open_named(text, lambda: store, proxies))
            stack.push_async_callback(maps[-1].close)
        yield maps


async def loaded(texts: Sequence[str], store_url: str | None) -> list[Contents]:
    """All that is in some maps. Raises: as `opened`; as `Map.load`."""
    async with opened(texts, store_url) as maps:
        return [await one.load() for one in maps]


def hash_part_given(text: str) -> str:
    """The hash part of what a user gives: that itself, `HASH-NAME`, or a path.

    Raises: InvalidStorePath.
    """
    from guix_glue.formats.store_path import check_hash_part, hash_part_of

    return check_hash_part(hash_part_of(text.rstrip("/")))


def _is_in_blocks(text: str) -> bool:
    return text.lower().startswith(_URNS) or text.endswith("/map.urn")
