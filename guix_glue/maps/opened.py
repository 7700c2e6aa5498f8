"""Which kind of map a user names: blocks, a server, a file, a folder, a database, a list.

Each kind is loaded only where it is named: a process of the Guix daemon is there for few items.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from eris.capability import URN_PREFIX, ReadCapability
from eris.errors import ErisError
from eris.store import BlockReader
from eris.threads import in_thread
from guix_glue.errors import GuixError
from guix_glue.formats.item_map import MAGIC
from guix_glue.local.files import open_regular
from guix_glue.maps.hints import NamedMap
from guix_glue.maps.port import Map
from guix_glue.servers.proxies import NO_PROXIES, Proxies

__all__ = ["MapUnusable", "is_url", "is_urn", "open_map"]

_SCHEMES: Final = ("http://", "https://")
_URN_FILE: Final = "/map.urn"
_HEAD: Final = 16


class MapUnusable(GuixError):
    """What is named cannot be used as a map. The message shows no URN and no password."""

    exit_code = 2


def is_url(text: str) -> bool:
    """Whether it names a server."""
    return text.lower().startswith(_SCHEMES)


def is_urn(text: str) -> bool:
    """Whether it is a URN, not a name of a file."""
    return text[: len(URN_PREFIX)].lower() == URN_PREFIX


async def open_map(
    text: str,
    store: Callable[[], BlockReader | None],
    number: int = 1,
    proxies: Proxies = NO_PROXIES,
) -> NamedMap:
    """Open a map: a URN, a URL, or a path. `number`: which of several it is, for messages.

    `store` gives where blocks are; it is called for a map in blocks alone.
    Raises: MapUnusable, InvalidMap, InvalidCapability; OSError.
    """
    if is_urn(text):
        return NamedMap(f"map {number}", _in_blocks(ReadCapability.from_urn(text), store))
    if is_url(text):
        return _of_server(text, store, proxies)
    return NamedMap(text, await _of_path(Path(text)))


def _in_blocks(capability: ReadCapability, store: Callable[[], BlockReader | None]) -> Map:
    from guix_glue.maps.blocks import BlockMap

    return BlockMap(_needed(store), capability)


def _of_server(text: str, store: Callable[[], BlockReader | None], proxies: Proxies) -> NamedMap:
    from guix_glue.maps.served import ServedMap, ServedUrn
    from guix_glue.servers.url import InvalidServer, parse_server

    try:
        if text.endswith(_URN_FILE):
            server = parse_server(text.removesuffix(_URN_FILE))
            return NamedMap(server.shown, ServedUrn(server, _needed(store), proxies))
        server = parse_server(text.rstrip("/").removesuffix("/map"))
    except InvalidServer as error:
        raise MapUnusable(f"a map's URL: {error}") from None
    return NamedMap(server.shown, ServedMap(server, proxies))


def _needed(store: Callable[[], BlockReader | None]) -> BlockReader:
    found = store()
    if found is None:
        raise MapUnusable("a map in blocks needs a store to read them from")
    return found


async def _of_path(path: Path) -> Map:
    from guix_glue.maps.files import FileMap, FolderMap, ListMap

    head = await in_thread(_head, path)
    if head is None:
        return FolderMap(path)
    if head == MAGIC:
        return FileMap(path)
    # By the word, so that this module needs no SQL.
    if head.startswith(b"SQLite format 3"):
        from guix_glue.maps.database import DatabaseMap

        return DatabaseMap(path)
    try:
        return await ListMap.read(path)
    except ErisError as error:
        raise MapUnusable(f"{path}: {error}") from None


def _head(path: Path) -> bytes | None:
    """The first bytes of a file; None of a folder."""
    if path.is_dir():
        return None
    file = open_regular(str(path))
    try:
        return os.read(file, _HEAD)
    finally:
        os.close(file)
