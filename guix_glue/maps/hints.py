"""What several maps say of an item, as hints: asked at once, and not waited for long.

Nothing here is trusted, and nothing here is an error. A map that cannot be read, or does not answer
in time, is passed over, and left alone for a while, so that not every item waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from eris.errors import ErisError, StoreError
from eris.threads import settle
from guix_glue.errors import reason_of
from guix_glue.maps.port import Map
from guix_glue.servers.outage import Outage

__all__ = ["MapHints", "NamedMap"]

_log = logging.getLogger(__name__)

_PATIENCE_S: Final = 1.0
_SLOW_PAUSE_S: Final = 10.0
_FAILED_PAUSE_S: Final = 60.0
_MOST: Final = 3
"""URNs for an item: each wrong one may cost a time-out."""
_FORGOTTEN: Final = 10_000


@dataclass(frozen=True, slots=True)
class NamedMap:
    """A map, and what it may be called in messages: no URN, and no password."""

    name: str
    map: Map = field(repr=False)


class MapHints:
    """Maps in order of preference, as `Hints`. `close()` them.

    `patience_s` is how long an item waits for all of them together. `tell` is called with a line
    about a map that is passed over, once until it is well again, or fails in another way.
    """

    def __init__(
        self,
        maps: Sequence[NamedMap],
        *,
        patience_s: float = _PATIENCE_S,
        tell: Callable[[str], None] = _log.warning,
    ) -> None:
        self._maps = tuple(maps)
        self._tell = tell
        self._patience_s = patience_s
        self._slow = [Outage(_SLOW_PAUSE_S) for _ in maps]
        self._failed = [Outage(_FAILED_PAUSE_S) for _ in maps]
        self._forgotten: OrderedDict[tuple[str, str], None] = OrderedDict()
        # What nobody waits for any more, and has not ended: reading a file may hang.
        self._left: dict[int, asyncio.Task[str | None]] = {}

    async def urns(self, hash_part: str) -> Sequence[str]:
        """See `Hints`."""
        asked = [
            (place, asyncio.create_task(self._ask(place, hash_part)))
            for place in range(len(self._maps))
            if self._may_ask(place)
        ]
        if not asked:
            return ()
        tasks = [task for _, task in asked]
        try:
            await asyncio.wait(tasks, timeout=self._patience_s)
            for place, task in asked:
                if not task.done():
                    self._note(self._slow[place], place, "it does not answer in time")
            found = dict.fromkeys(task.result() for task in tasks if task.done())
        finally:
            for place, task in asked:
                if not task.done():
                    task.cancel()
                    self._left[place] = task
        known = [
            urn for urn in found if urn is not None and (hash_part, urn) not in self._forgotten
        ]
        return known[:_MOST]

    async def forget(self, hash_part: str, urn: str) -> None:
        """See `Hints`: for as long as this lives, or ten thousand more are forgotten."""
        self._forgotten[hash_part, urn] = None
        while len(self._forgotten) > _FORGOTTEN:
            self._forgotten.popitem(last=False)

    async def close(self) -> None:
        """Close all maps."""
        await settle(*self._left.values())
        for one in self._maps:
            await one.map.close()

    def _may_ask(self, place: int) -> bool:
        if self._slow[place].left_s or self._failed[place].left_s:
            return False
        left = self._left.get(place)
        return left is None or left.done()

    async def _ask(self, place: int, hash_part: str) -> str | None:
        try:
            urn = await self._maps[place].map.find(hash_part)
        except (ErisError, OSError) as error:
            # Time-outs too, which are of the system's kind.
            self._note(self._failed[place], place, _reason(error))
            return None
        except Exception as error:
            _log.debug("A map failed", exc_info=True)
            self._note(self._failed[place], place, type(error).__name__)
            return None
        self._slow[place].end()
        self._failed[place].end()
        return urn

    def _note(self, outage: Outage, place: int, reason: str) -> None:
        if outage.begin(reason):
            self._tell(f"{self._maps[place].name} is passed over for now: {reason}")


def _reason(error: Exception) -> str:
    # What a store says may name its URL, which is not for every log.
    return "the store fails" if isinstance(error, StoreError) else reason_of(error)
