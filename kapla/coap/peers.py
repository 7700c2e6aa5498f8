"""The connections of one listener: how many there may be, and which there are.

A connection is entered when it is made and leaves when it is over, by the same two calls, whatever
happens between: what was accepted and never made is in no list.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from kapla.coap.answering import Answering
from kapla.coap.beyond import Reach
from kapla.coap.fellows import Guests, Welcome
from kapla.coap.link import Link
from kapla.coap.put_rate import PutRate, PutRates
from kapla.coap.seed import SeedDoor
from kapla.coap.site import AiocoapLane
from kapla.coap.traffic import Place, Visit
from kapla.coap.turns import Line
from kapla.storage.access import BlockAccess

__all__ = ["Peers"]

_log = logging.getLogger(__name__)

_RUSH: Final = 32
"""So many connections may have made the heap much larger than it needs to be."""


class Peers:
    """Makes the connections of one listener, `most` at a time, and knows them until they end.

    Counted by listener: strangers on TCP must not lock out the programs on this machine.
    `on_idle` is called when the last one has ended, and for each once it was told to finish;
    `on_rush_over` when most of many have.
    """

    def __init__(
        self,
        access: BlockAccess,
        lane: AiocoapLane,
        line: Line,
        most: int,
        on_idle: Callable[[], None],
        on_rush_over: Callable[[], None] = lambda: None,
        put_rates: PutRates | None = None,
        guests: Guests | None = None,
        reach: Reach | None = None,
        place: Place | None = None,
        seeds: SeedDoor | None = None,
    ) -> None:
        self._access = access
        self._lane = lane
        self._line = line
        self.most = most
        """How many there may be; who is there when it becomes less stays."""
        self._on_idle = on_idle
        self._on_rush_over = on_rush_over
        self._put_rates = put_rates or PutRates(None)
        self._guests = guests
        self.reach = reach
        """Who is asked for what is not here. None: nobody."""
        self._place = place
        self._seeds = seeds
        self._shared_rate = self._put_rates.make()
        self._most_of_late = 0
        self._stopping = False
        self._open: dict[Link, Visit | None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def connect(self) -> Link:
        """The server's end of a connection that was accepted."""
        return Link(self.answering)

    def answering(self, link: Link) -> Answering:
        """What is done on a link for whoever asks there."""
        return Answering(link, self._access, self._lane, self._line, self)

    def opened(self, link: Link) -> None:
        """A connection is made."""
        self._open[link] = self._entered(link)
        self._most_of_late = max(self._most_of_late, len(self._open))
        self._access.statistics.connections += 1
        self._access.statistics.open_connections += 1
        if self._stopping:
            # It was accepted, but asyncio drops it now that its listener is closed.
            link.finish()
        elif len(self._open) > self.most and not self._has_a_place(link):
            _log.debug("More than %d connections: one refused", self.most)
            link.refuse("too many connections")

    def _entered(self, link: Link) -> Visit | None:
        if self._place is None or link.answering is None:
            return None
        return self._place.enter(link.answering.origins, link.address, lambda: _who(link))

    def _has_a_place(self, link: Link) -> bool:
        return self._guests is not None and self._guests.has_a_place(link)

    def closed(self, link: Link) -> None:
        """A connection has ended, and nothing is worked on for it."""
        if link in self._open:
            visit = self._open.pop(link)
            if self._place is not None and visit is not None:
                self._place.leave(visit)
            self._access.statistics.open_connections -= 1
            if self._most_of_late >= _RUSH and 2 * len(self._open) < self._most_of_late:
                self._most_of_late = len(self._open)
                self._on_rush_over()
            if self._stopping or not self._open:
                self._on_idle()

    def welcome(self, link: Link) -> Welcome | None:
        """What there is for whoever has connected."""
        return None if self._guests is None else self._guests.welcome(link)

    def goes_on(self, link: Link) -> bool:
        """Whether these may be asked on other machines, too, on behalf of this connection."""
        return self._guests is None or self._guests.may_ask_others(link)

    def enter_seed(self, link: Link, uid: int | None) -> bool:
        """Whoever is there is a seed from now on. Raises: see `SeedDoor`."""
        if self._seeds is None:
            return False
        self._seeds.enter(link, uid)
        return True

    def put_rate(self, uid: int | None) -> PutRate:
        """How fast a user may put, on all listeners together; nobody's peers share one here."""
        return self._shared_rate if uid is None else self._put_rates.of(uid)

    @property
    def only_asking(self) -> int:
        """How many there are that cannot be asked."""
        return sum(link.asking is None for link in self._open)

    def finish(self, *, only_asking: bool = False) -> None:
        """Take no more requests; answer those that were asked, then close.

        `only_asking`: not yet those whom we ask, on behalf of the others.
        """
        self._stopping = True
        for link in list(self._open):
            if link.asking is None or not only_asking:
                link.finish()

    def abort(self) -> None:
        """Close all at once."""
        for link in list(self._open):
            link.abort()


def _who(link: Link) -> str | None:
    """Who is at the other end, for people: a peer that we know, or a user of this machine."""
    if link.asking is not None:
        return link.asking.name
    return None if link.answering is None else link.answering.user
