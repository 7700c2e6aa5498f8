"""Items by their names: narinfos of servers, of each item and of all it refers to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any, Final, Protocol, TypeVar

from eris.threads import settle
from guix_glue.closures.belief import Belief
from guix_glue.closures.wanted import Wanted
from guix_glue.errors import FetchFailed, InvalidItemList
from guix_glue.formats.item_list import MAX_LIST_ITEMS
from guix_glue.formats.narinfo import Narinfo
from guix_glue.formats.store_path import hash_part_of
from guix_glue.servers.url import Server

__all__ = ["Servers", "Told", "ask_closure", "ask_each"]

_T = TypeVar("_T")

_AT_ONCE: Final = 32
"""Look-ups: servers allow as much from one client."""


class Told(Protocol):
    """A narinfo, and the server it is from."""

    @property
    def narinfo(self) -> Narinfo:
        """What is said."""

    @property
    def server(self) -> Server:
        """Who says it."""


class Servers(Protocol):
    """Whom to ask: the narinfo of a hash part, signed by an authorized key; None if none has it."""

    async def narinfo(self, hash_part: str) -> Told | None:
        """Raises: FetchFailed, if nobody has it, and not all could be asked."""


async def ask_closure(
    servers: Servers,
    hash_parts: Iterable[str],
    belief: Belief,
    valid: Callable[[Sequence[str]], Awaitable[AbstractSet[str]]],
) -> list[Wanted]:
    """These items and all they refer to, as servers tell of them.

    `valid` tells of base names which are here: these, and what only they refer to, are left out.
    Raises: FetchFailed, if there is no narinfo of one; SignatureRejected; InvalidItemList, if they
    are too many; what `valid` raises.
    """
    found: dict[str, Wanted] = {}
    level = list(dict.fromkeys(hash_parts))
    asked = set(level)
    while level:
        for wanted in await _ask_all(servers, level, belief):
            found[wanted.item.base_name] = wanted
        if len(found) > MAX_LIST_ITEMS:
            raise InvalidItemList(f"there are more than {MAX_LIST_ITEMS} items")
        names = {name for one in found.values() for name in one.item.references} - found.keys()
        names -= await valid(sorted(names)) if names else set()
        level = [hash_part_of(name) for name in sorted(names)]
        if twice := asked.intersection(level):
            raise FetchFailed(f"servers have {min(twice)} by another name than is referred to")
        asked.update(level)
    return list(found.values())


async def ask_each(servers: Servers, hash_parts: Sequence[str]) -> dict[str, Narinfo]:
    """What servers say of these items, by hash part, as far as they say anything."""
    slots = asyncio.Semaphore(_AT_ONCE)
    found: dict[str, Narinfo] = {}

    async def ask(hash_part: str) -> None:
        async with slots:
            with suppress(FetchFailed):
                if (told := await servers.narinfo(hash_part)) is not None:
                    found[hash_part] = told.narinfo

    await _together([ask(hash_part) for hash_part in hash_parts])
    return found


async def _ask_all(servers: Servers, hash_parts: Sequence[str], belief: Belief) -> list[Wanted]:
    slots = asyncio.Semaphore(_AT_ONCE)

    async def ask(hash_part: str) -> Wanted:
        async with slots:
            told = await servers.narinfo(hash_part)
        if told is None:
            raise FetchFailed(f"no server has a narinfo of {hash_part} that counts here")
        item = belief.item(told.narinfo)
        return Wanted.of(item, told.narinfo, server=told.server)

    return await _together([ask(hash_part) for hash_part in hash_parts])


async def _together(work: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Do all of it at once; with the first error the rest ends."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await settle(*tasks)
