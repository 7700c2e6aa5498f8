"""What the daemon tells of itself: the facts of `kapla stat`, of `kapla top`, and of its page.

Facts are gathered when somebody asks, and shared by all who ask in the same moment: whoever looks
costs little, and nobody costs nothing. No block, no reference and no URN is among them. Each answer
comes in time: where the store does not, that is what is told.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from eris.crypto import reference_of
from eris.errors import ErisError, StoreUnavailable
from kapla import __version__
from kapla.coap.traffic import Traffic
from kapla.config import Config
from kapla.log import redact
from kapla.pins import PinSummary, default_name
from kapla.shared import Shared
from kapla.storage.access import Statistics
from kapla.storage.batching import BatchedStorage

__all__ = ["MOST_PINS", "Reporting"]

MOST_PINS: Final = 20
"""Pins that are told of by name."""

_PINS_FRESH_S: Final = 5.0
"""Telling of pins is work for the thread that writes."""
_PATIENCE_S: Final = 5.0
_PINS_PATIENCE_S: Final = 2.0
_HEALTH_PATIENCE_S: Final = 1.0
_LONGEST_NAME: Final = 80
_SHOWN_OF_REFERENCE: Final = 8
_TOKEN_BYTES: Final = 24
# No block of the store: these bytes are too few to be one.
_NO_BLOCK: Final = reference_of(b"kapla")
_OF_ALL: Final = (
    "state",
    "direction",
    "found",
    "connections",
    "rtt_s",
    "rate",
    "hit_ratio",
    "blocks_in",
    "bytes_in",
    "blocks_out",
    "bytes_out",
)
"""What is told of a peer to everybody: who it is and where is not."""


class Reporting:
    """Of one daemon. `config` gives what holds now, `peers` the facts of `kapla peers`.

    `seeds`: numbers of these.
    """

    def __init__(
        self,
        config: Callable[[], Config],
        storage: BatchedStorage,
        statistics: Statistics,
        peers: Callable[[], Sequence[dict[str, object]]],
        seeds: Callable[[], dict[str, int]],
    ) -> None:
        self.token = secrets.token_urlsafe(_TOKEN_BYTES)
        """Shows names to those who come by TCP: another one in each run, and on no disk."""
        self.page_place: str | None = None
        """Where the page is on the loopback interface: `http://` and a host and a port."""
        self.traffic = Traffic()
        self.peers = peers
        self._seeds = seeds
        self._config = config
        self._storage = storage
        self._statistics = statistics
        self._started = time.monotonic()
        self._started_at = time.time()
        self._numbers = Shared(self._gather_numbers, 0.0)
        self._pins = Shared(self._gather_pins, _PINS_FRESH_S)
        self._count = Shared(storage.pinning.count, _PINS_FRESH_S)
        self._looked = Shared(self._look, 0.0)

    def page_url(self) -> str | None:
        """Where the page is, with the token behind the `#`, which no browser sends anywhere."""
        return None if self.page_place is None else f"{self.page_place}/#{self.token}"

    async def stat(self) -> dict[str, object]:
        """What the daemon holds and did: the facts of `kapla stat`. Raises: StoreUnavailable."""
        blocks, database_bytes = await self._storage.totals()
        statistics, config = self._statistics, self._config()
        return {
            "version": __version__,
            "store": "sqlite" if isinstance(config.store, Path) else "postgresql",
            "blocks": {str(size): count for size, count in sorted(blocks.items())},
            "bytes": {str(size): size * count for size, count in sorted(blocks.items())},
            "database_bytes": database_bytes,
            "max_size": config.max_size,
            "min_free": config.min_free,
            "when_full": config.when_full,
            "uptime_s": round(time.monotonic() - self._started, 3),
            "requests": {
                "get": statistics.get,
                "put": statistics.put,
                "other": statistics.other,
                "refused": statistics.refused,
            },
            "new_blocks": self._storage.new_blocks,
            "full_blocks": self._storage.full_blocks,
            "evicted_blocks": self._storage.evicted_blocks,
            "scrubbed_blocks": self._storage.scrubbing.looked_at,
            "bad_blocks": self._storage.scrubbing.bad_blocks,
            "connections": {
                "now": statistics.open_connections,
                "since_start": statistics.connections,
            },
            "seeds": self._seeds(),
        }

    async def status(self, *, everything: bool) -> dict[str, object]:
        """All that there is to tell: numbers, or with `everything` names too.

        Raises: StoreUnavailable.
        """
        numbers = await self._numbers.get(_PATIENCE_S)
        if not everything:
            return {**numbers, "everything": False, "peers": self.peer_numbers()}
        pins = None
        with suppress(ErisError):
            pins = await self._pins.get(_PINS_PATIENCE_S)
        return {
            **numbers,
            "everything": True,
            "peers": list(self.peers()),
            "pins": pins,
            "transfers": self.traffic.transfers(),
        }

    def peer_numbers(self) -> list[dict[str, object]]:
        """Of each peer how it is doing, and not who it is."""
        return [{name: peer[name] for name in _OF_ALL} for peer in self.peers()]

    async def trouble(self) -> str | None:
        """What is wrong with the store; None while it answers."""
        try:
            await self._looked.get(_HEALTH_PATIENCE_S)
        except ErisError as error:
            return str(error)
        return None

    async def _gather_numbers(self) -> dict[str, object]:
        stat = await self.stat()
        kept = self._storage.kept()
        pins = None
        with suppress(ErisError):
            pins = await self._count.get(_PINS_PATIENCE_S)
        return {
            **stat,
            "started_at": round(self._started_at, 3),
            "disk_free_bytes": await asyncio.to_thread(self._disk_free),
            **self.traffic.told(),
            "keeping": {
                "pins": pins,
                "pinned_blocks": kept.pinned,
                "kept_blocks": kept.kept,
                "lent_blocks": kept.lent,
            },
        }

    async def _gather_pins(self) -> list[dict[str, object]]:
        found, _ = await self._storage.pinning.list(None, None, MOST_PINS)
        return list(map(_pin_facts, found))

    def _disk_free(self) -> int | None:
        store = self._config().store
        if not isinstance(store, Path):
            # On whichever disk its server has it.
            return None
        try:
            found = os.statvfs(store.parent)
        except OSError:
            return None
        return found.f_bavail * found.f_frsize

    async def _look(self) -> None:
        """Have the thread that reads look for a block."""
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._storage.get_many([_NO_BLOCK], answered.set_result)
        result = await answered
        if isinstance(result, ErisError):
            raise StoreUnavailable(str(result))


def _pin_facts(pin: PinSummary) -> dict[str, object]:
    return {
        "name": _shown(pin),
        "owner": pin.owner,
        "keep": pin.keep,
        "lend": pin.lend,
        "created": pin.created,
        "blocks": pin.small + pin.large,
        "bytes": pin.block_bytes,
        "missing": pin.missing,
    }


def _shown(pin: PinSummary) -> str:
    """Its name; nothing in it opens a content, and of a reference as much as logs show."""
    if pin.root is not None and pin.name == default_name(pin.root):
        return pin.name[:_SHOWN_OF_REFERENCE] + "…"
    name = redact(pin.name)
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
