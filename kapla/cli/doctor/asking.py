"""Asks the stores: who is there, what they hold, how they stand with their peers."""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import socket
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from eris.errors import ErisError, StoreRefused
from eris.model import Reference
from kapla.cli.doctor.facts import StoreFacts
from kapla.errors import CannotConnect, InvalidUrl, NoStore

if TYPE_CHECKING:
    from kapla.urls import StoreUrl

__all__ = ["ask_stores"]

_LONGEST_S: Final = 5.0
_MOST: Final = 8
_PEER: Final = struct.Struct("3i")


def ask_stores(store_url: str | None) -> tuple[list[StoreFacts], str | None]:
    """The stores that commands would use, and why there are none, if there are none."""
    from kapla.client import default_store_urls

    try:
        urls = default_store_urls(store_url)
    except NoStore:
        # Somebody says that there is none, and that is no trouble.
        return [], None
    except InvalidUrl as error:
        return [], str(error).removeprefix("store URL: ")
    # Of a group each by itself.
    asked = [member for url in urls for member in url.members]
    return asyncio.run(_ask_all(asked[:_MOST])), None


async def _ask_all(urls: list[StoreUrl]) -> list[StoreFacts]:
    return list(await asyncio.gather(*map(_ask, urls)))


async def _ask(url: StoreUrl) -> StoreFacts:
    from kapla.urls import FileEndpoint, UnixEndpoint

    path = url.endpoint.path if isinstance(url.endpoint, UnixEndpoint) else None
    facts: dict[str, Any] = {} if path is None else _look_at(path)
    facts["is_file"] = isinstance(url.endpoint, FileEndpoint)
    try:
        async with asyncio.timeout(_LONGEST_S):
            facts |= await _told(url)
    except TimeoutError:
        facts["error"] = f"no answer within {_LONGEST_S:g} s"
    except ErisError as error:
        facts["error"] = str(error)
        if isinstance(error, CannotConnect):
            facts |= {"error": error.reason, "number": error.number}
    if path is not None and "error" not in facts:
        facts |= _about_process(path)
    return StoreFacts(str(url), **facts)


async def _told(url: StoreUrl) -> dict[str, Any]:
    """What a store says of itself; of one that does not tell, that it answers."""
    from kapla.client import RemoteStore, open_store
    from kapla.peer_listing import list_peers

    told: dict[str, Any] = {}
    async with open_store([url], timeout_s=_LONGEST_S, connect_timeout_s=_LONGEST_S) as store:
        if not isinstance(store, RemoteStore):
            with suppress(StoreRefused):
                await store.find([Reference(b"\0" * 32)])
            return told
        await store.connect()
        with suppress(StoreRefused):
            told["report"] = await store.stat()
            told["peers"] = tuple(await list_peers(store))
    return told


def _look_at(path: Path) -> dict[str, Any]:
    """What can be seen of a socket from outside."""
    facts: dict[str, Any] = {"socket": str(path)}
    try:
        found = path.stat()
    except FileNotFoundError:
        return facts | {"is_there": False}
    except OSError:
        return facts
    facts["is_socket"] = stat.S_ISSOCK(found.st_mode)
    if found.st_mode & 0o060:
        with suppress(KeyError):
            group = grp.getgrgid(found.st_gid)
            user = pwd.getpwuid(os.geteuid())
            facts |= {
                "group": group.gr_name,
                "in_group": found.st_gid in {os.getegid(), *os.getgroups()},
                "in_group_later": user.pw_name in group.gr_mem or user.pw_gid == found.st_gid,
            }
    return facts


def _about_process(path: Path) -> dict[str, Any]:
    """Which process listens, and how many files it may have open, as far as we may know."""
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
        asked.settimeout(_LONGEST_S)
        asked.connect(os.fsencode(path))
        credentials = asked.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        pid, _, _ = _PEER.unpack(credentials)
        return {"pid": pid, "open_files": _open_files(pid)} if pid else {}
    return {}


def _open_files(pid: int) -> int | None:
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
            if line.startswith("Max open files"):
                return int(line.split()[3])
    return None
