"""The nars of the proxy: an item that somebody vouches for in, the bytes of its nar out.

```python
nars = Nars(store, upstream, directory, installed, maps)
reply = await nars.reply(vouched)          # None: nobody has it
...
await nars.close()
```

A `Passage` is one client's nar: it tries the `ways` (pure: which, in which order, and what may go
out as it comes) by `Bringing`, which makes a nar of any source, and remembers in `KnownUrns` and in
memory what was wrong. What goes out is decided by `Outflow` (pure). What has to be compared before
anything goes out is made by `Makings`, once for all who want it, in the room that `Spool` has.

The header goes out within a second, whatever comes later. Who fails before that is told so by a
status; later the connection ends in the middle, so that nobody takes it for whole.

Of what is handed in, `vouched.narinfo.signed_urn` and `signed_deltas` must be covered by a
signature that counts: a `Sig` of Nix covers neither. Whoever has only such a one, or no key at all,
hands over a narinfo that has them as hints.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from eris.store import BlockReader
from eris.threads import in_thread, settle
from guix_glue.formats.store_path import format_hash
from guix_glue.kept.directory import CacheDirectory
from guix_glue.local.installed import InstalledItems
from guix_glue.model import StoreItem
from guix_glue.proxy.bringing import Bringing, NarServers
from guix_glue.proxy.known_urns import KnownUrns
from guix_glue.proxy.making import Makings
from guix_glue.proxy.noting import Noting
from guix_glue.proxy.passage import AskAnew, Passage, Workshop
from guix_glue.proxy.settings import DEFAULT_NAR_SETTINGS, NarSettings
from guix_glue.proxy.spool import Spool
from guix_glue.proxy.turns import Turns
from guix_glue.serving.reply import NAR_TYPE, TEXT_TYPE, FetchedBody, Reply
from guix_glue.sources.hints import Hints
from guix_glue.sources.vouching import Vouched

__all__ = ["Nars", "nar_tag"]

_AGAIN_S: Final = 5


class Nars:
    """All nars that go through a proxy. `close()` it; then nothing is written any more."""

    def __init__(
        self,
        store: BlockReader | None,
        servers: NarServers,
        directory: CacheDirectory,
        installed: InstalledItems | None = None,
        hints: Sequence[Hints] = (),
        settings: NarSettings = DEFAULT_NAR_SETTINGS,
        noting: Noting | None = None,
    ) -> None:
        """`installed` are items from which deltas may lead; None for none.

        `noting` is told what came; it is closed here.

        Raises: PublishError, if the directory cannot be used.
        """
        self._settings = settings
        self._urns = KnownUrns(directory)
        self._noting = noting
        self._has_store = store is not None
        self._bringing = Bringing(store, servers, self._urns, hints, settings)
        spool = Spool(
            directory,
            small=settings.small,
            memory=settings.memory,
            spooled=settings.spooled,
            disk=settings.spool,
        )
        self._makings = Makings(self._bringing, spool, settings.longest_s)
        self._workshop = Workshop(
            self._bringing,
            self._makings,
            hints,
            installed,
            noting,
            Turns(settings.at_once),
            settings,
        )
        self._passages: set[Passage] = set()
        # Those whose client has gone end, too.
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """End all that is under way."""
        for task in self._tasks:
            task.cancel()
        await settle(*self._tasks)
        await self._makings.close()
        await self._bringing.close()
        if self._noting is not None:
            await self._noting.close()

    async def expire(self, before: float) -> None:
        """Forget the URNs of items of which nothing was noted since a time (of the epoch).

        Raises: OSError.
        """
        await in_thread(self._urns.expire, before)

    async def reply(
        self, vouched: Vouched, *, only_head: bool = False, ask_anew: AskAnew | None = None
    ) -> Reply | None:
        """The nar of an item; None if nobody has it. With `only_head` nothing of it is made.

        `ask_anew` is called when none of the servers that vouched for it brings it. A part of it
        can be asked for. It is closed (`Reply.close`) by whoever sends it.
        """
        item = vouched.narinfo.item
        if not self._may_be(vouched):
            return None
        if only_head:
            return _reply(item, FetchedBody(_nothing, item.nar_size, lambda: None))
        if len(self._passages) >= self._settings.waiting:
            return _come_again()
        passage = Passage(vouched, self._workshop, ask_anew)
        self._passages.add(passage)
        self._tasks.add(passage.task)
        passage.task.add_done_callback(self._tasks.discard)

        def leave() -> None:
            self._passages.discard(passage)
            passage.leave()

        try:
            begins = await self._begins(passage)
        except BaseException:
            leave()
            raise
        if begins:
            return _reply(item, FetchedBody(passage.pieces, item.nar_size, leave))
        leave()
        return _come_again() if passage.may_pass else None

    def _may_be(self, vouched: Vouched) -> bool:
        """Whether there is anything to try, for a nar that is not too large."""
        size = vouched.narinfo.item.nar_size
        if not vouched.size_is_signed and size > self._settings.max_unsigned_size:
            return False
        return self._has_store or bool(self._bringing.nars(vouched))

    async def _begins(self, passage: Passage) -> bool:
        """Wait for the beginning, or until the header has to go out."""
        try:
            async with asyncio.timeout(self._settings.header_s):
                return await asyncio.shield(passage.has_begun)
        except TimeoutError:
            passage.commit()
            return True


def nar_tag(item: StoreItem) -> str:
    """The strong validator of a nar: it is its hash."""
    return format_hash(item.nar_hash)


def _reply(item: StoreItem, body: FetchedBody) -> Reply:
    return Reply(200, NAR_TYPE, body, tag=nar_tag(item))


def _come_again() -> Reply:
    text = b"The nar cannot be had at the moment"
    return Reply(503, TEXT_TYPE, text, headers=(("Retry-After", str(_AGAIN_S)),))


async def _nothing(offset: int, size: int) -> AsyncGenerator[bytes, None]:
    return
    yield b""
