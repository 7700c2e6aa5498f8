"""The map of what a server has baked: written into the store hourly, and lent.

A new map takes the place of the one before, whose pin goes only then. So whoever has the URN of
today finds its blocks, until there is another and for as long as the store has room. Of what is the
same in both nothing is sent again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Final, Protocol

from eris.errors import ErisError, InvalidCapability, StoreError
from eris.threads import in_thread, settle
from eris.transfer import put_content
from guix_glue.errors import reason_of
from guix_glue.formats.item_map import Contents, Entry, MapFacts, entry_of
from guix_glue.formats.store_path import is_hash_part
from guix_glue.publish.item_pins import MAP_KEY, ItemPins
from guix_glue.publish.model import ErisTarget
from guix_glue.servers.complaints import Complaints

__all__ = ["KnownUrns", "PublishedMap"]

_log = logging.getLogger(__name__)

_PERIOD_S: Final = 3600.0
_AGAIN_S: Final = 60.0
"""While there is nothing to tell yet, and after a failure."""


class KnownUrns(Protocol):
    """The URNs of items."""

    async def urns(self) -> Mapping[str, str]:
        """All there are, by hash part; what has another key is no item."""


class PublishedMap:
    """The map of one server."""

    def __init__(
        self, known: KnownUrns, target: ErisTarget, pins: ItemPins, store_dir: str
    ) -> None:
        self.urn: str | None = None
        """Where the map is; None before there is one."""
        self._known = known
        self._target = target
        self._pins = pins
        self._facts = MapFacts(store_dir, target.trees.name)
        self._complaints = Complaints(_log, length=1)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Write it now and hourly, until the end of the context."""
        task = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            task.cancel()
            await settle(task)

    async def write(self) -> None:
        """Write it once, if there is anything to tell. Raises: StoreError, OSError, GuixError."""
        urns = await self._known.urns()
        contents = await in_thread(lambda: Contents.of(self._facts, _entries(urns)))
        if not len(contents):
            return
        data = await in_thread(lambda: b"".join(contents.format()))
        async with self._pins.opened() as pin:
            capability = await put_content(pin.store, BytesIO(data), finder=pin.store)
            await pin.keep(MAP_KEY, capability.root.reference)
        self.urn = capability.to_urn()
        _log.debug("The map has %d items", len(contents))

    async def _keep(self) -> None:
        while True:
            written = await self._try()
            await asyncio.sleep(_PERIOD_S if written and self.urn is not None else _AGAIN_S)

    async def _try(self) -> bool:
        try:
            await self.write()
        except (ErisError, OSError) as error:
            self._say(self._reason(error))
            return False
        except Exception as error:
            _log.debug("The map was not written", exc_info=True)
            self._say(type(error).__name__)
            return False
        self._complaints.withdraw(MAP_KEY)
        return True

    def _reason(self, error: Exception) -> str:
        if not isinstance(error, StoreError):
            return reason_of(error)
        # Its message may name the store's URL, which is not for every log.
        return f"the store {self._target.explain(error) or 'cannot be reached or fails'}"

    def _say(self, reason: str) -> None:
        self._complaints.say(MAP_KEY, f"The map is not written for now: {reason}")


def _entries(urns: Mapping[str, str]) -> Iterator[Entry]:
    for hash_part, urn in urns.items():
        if is_hash_part(hash_part):
            try:
                yield entry_of(hash_part, urn)
            except InvalidCapability:
                _log.warning("%s is left out of the map: its URN is none", hash_part)
