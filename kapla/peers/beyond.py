"""What is not here: the way of a block from peers to whoever asked for it.

Each connection that asks has a session of its own, since what it asks for belongs together. Blocks
that two of them want at the same time are fetched once. What comes is checked by the session, kept
here, and given to all who wait. What nobody had is not asked for again for a moment.

A request that a peer passes on to us is a wish of its own, and never shared with others': two
daemons that ask each other would else wait for each other.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from eris.base32 import short
from eris.errors import BlockNotFound, CorruptBlock, ErisError, StoreUnavailable
from eris.model import BlockSize, Reference
from kapla.coap.beyond import FULL_HOPS, HERE, Found, FoundDone, Leaving
from kapla.coap.link import Link
from kapla.peers.early import COMES_BACK_S, Early
from kapla.peers.keeping import Keeper, Store
from kapla.peers.line import Line
from kapla.peers.link_source import LinkSource
from kapla.peers.live import Live, LiveSources
from kapla.peers.peer_link import PeerLink
from kapla.peers.runner import Runner
from kapla.peers.session.session import DEFAULT_PATIENCE_S
from kapla.peers.source import Block, Source
from kapla.peers.table import Peer, PeerTable

__all__ = ["PeerBlocks"]

# How long it is remembered that nobody had a block, and of how many.
_NOBODY_S: Final = 1.0
_MOST_REMEMBERED: Final = 65536
# How long answers about presence are waited for: of those who are slower, nothing is known.
_FIND_S: Final = 2.0
# How long others that do not answer are waited for on behalf of a peer, for each further hop: its
# own patience may be a quarter of a second.
_PER_HOP_S: Final = 0.05


class _Wish:
    """A block that is being fetched, and who waits for it."""

    __slots__ = ("future", "waiting")

    def __init__(self, future: asyncio.Future[Block]) -> None:
        self.future = future
        self.waiting: list[tuple[object, FoundDone]] = []


class _Session:
    """The session of one who asks; it lives on while others wait for what it fetches."""

    def __init__(self, runner: Runner, hops: int, peer: Peer[Line] | None) -> None:
        self.hops = hops
        self.peer = peer
        """Who asks, if it is a peer."""
        self.block_size: BlockSize | None = None
        """Of the last block: a content has blocks of one size."""
        self._runner = runner
        self._under_way = 0
        self._is_left = False

    def fetch(
        self,
        reference: Reference,
        ended: Callable[[asyncio.Future[Block]], None],
        but: frozenset[int] = frozenset(),
    ) -> asyncio.Future[Block]:
        """Fetch a block from peers, but not from some; `ended` gets the future when it is done."""
        future = self._runner.fetch(reference, self.block_size, but)
        self._under_way += 1

        def end(future: asyncio.Future[Block]) -> None:
            self._under_way -= 1
            try:
                ended(future)
            finally:
                self._close_if_over()

        future.add_done_callback(end)
        return future

    def leave(self) -> None:
        """Whoever asked is gone."""
        self._is_left = True
        self._close_if_over()

    def _close_if_over(self) -> None:
        if self._is_left and not self._under_way:
            self._runner.close()


class PeerBlocks:
    """The blocks of all peers: `Beyond` of kapla.coap. `place`: any number, ours each time."""

    def __init__(self, table: PeerTable[Line], store: Store, place: int) -> None:
        self._table = table
        self._keeper = Keeper(store)
        self._place = place
        self._levels = {
            hops: LiveSources(on_distrust=self._hang_up) for hops in range(1, FULL_HOPS + 1)
        }
        self._sessions: dict[tuple[object, int], _Session] = {}
        # Shared among those whose requests go as far.
        self._wishes: dict[tuple[Reference, int], _Wish] = {}
        # Those of peers that pass a request on.
        self._passed_on: dict[object, set[asyncio.Future[Block]]] = {}
        # Until when that is remembered, and how far it was asked.
        self._nobody: OrderedDict[Reference, tuple[float, int]] = OrderedDict()
        self._early = Early()
        self._somebody = asyncio.Event()
        self._is_stopping = False
        table.on_change = self._changed

    # Beyond

    def fetch(self, reference: Reference, hops: int, asker: object, done: FoundDone) -> None:
        """Get a block: see `Beyond`."""
        held = self._keeper.held(reference)
        if held is not None:
            done(Found(*held, HERE))
            return
        session = self._session(asker, min(hops, FULL_HOPS))
        but = self._not_asked(session.peer)
        if but.issuperset(number for number, _ in self._levels[session.hops]):
            if session.peer is None and self._early.is_now:
                self._early.add(asker, done, lambda: self.fetch(reference, hops, asker, done))
                return
            # Those whom we let go at the end may have it.
            done(self._none(reference))
        elif session.peer is not None:
            self._pass_on(reference, session, asker, but, done)
        elif self._is_known_nowhere(reference, session.hops):
            done(BlockNotFound(reference))
        else:
            self._wish(reference, session, asker, done)

    async def find(self, references: Sequence[Reference], hops: int, asker: object) -> list[bool]:
        """Tell which blocks peers have: see `Beyond`."""
        hops, peer = min(hops, FULL_HOPS), self._peer(asker)
        but = self._not_asked(peer)
        asked = [
            live.source.find(references)
            for number, live in self._levels[hops]
            if number not in but and not live.standing.breaker.is_open
        ]
        present = [False] * len(references)
        if not asked:
            return present
        try:
            await asyncio.wait(asked, timeout=_FIND_S if peer is None else hops * _PER_HOP_S)
            is_known = all(one.done() for one in asked)
        finally:
            for one in asked:
                one.cancel()
        for one in asked:
            if one.done() and not one.cancelled() and one.exception() is None:
                present = [a or b for a, b in zip(present, one.result(), strict=True)]
        if peer is not None and not is_known and not all(present):
            # It takes a no for an answer, and would not ask for the blocks themselves.
            raise StoreUnavailable("not all peers have said what they have")
        return present

    def leave(self, asker: object) -> None:
        """This one waits for nothing any more."""
        self._early.leave(asker)
        gone = StoreUnavailable("whoever asked has gone")
        for name, wish in list(self._wishes.items()):
            mine = [done for one, done in wish.waiting if one is asker]
            if mine:
                wish.waiting = [item for item in wish.waiting if item[0] is not asker]
                for done in mine:
                    done(gone)
                if not wish.waiting:
                    # At once: whoever wants it next is not to wait for what is cancelled.
                    del self._wishes[name]
                    wish.future.cancel()
        for future in self._passed_on.pop(asker, set()):
            future.cancel()
        for key in [key for key in self._sessions if key[0] is asker]:
            self._sessions.pop(key).leave()

    # wishes

    def _wish(
        self, reference: Reference, session: _Session, asker: object, done: FoundDone
    ) -> None:
        key = (reference, session.hops)
        wish = self._wishes.get(key)
        if wish is None:
            wish = self._wishes[key] = _Wish(
                session.fetch(reference, partial(self._ended, reference, session))
            )
        wish.waiting.append((asker, done))

    def _ended(
        self, reference: Reference, session: _Session, future: asyncio.Future[Block]
    ) -> None:
        wish = self._wishes.get((reference, session.hops))
        if wish is None or wish.future is not future:
            return
        del self._wishes[reference, session.hops]
        error = _error_of(future)
        if error is not None and not _is_wrong(future) and self._may_somebody_come():
            # Those who are not here yet may have it; or whoever was asked is gone, and may be here
            # again at once.
            for asker, done in wish.waiting:
                again = partial(self.fetch, reference, session.hops, asker, done)
                self._early.add(asker, done, again)
            return
        waiting = [done for _, done in wish.waiting]
        if error is not None and not _is_wrong(future) and self._is_stopping:
            _tell(waiting, Leaving())
            return
        if isinstance(error, BlockNotFound):
            self._note_nowhere(reference, session.hops)
        self._deliver(reference, session, future, waiting)

    def _pass_on(
        self,
        reference: Reference,
        session: _Session,
        asker: object,
        but: frozenset[int],
        done: FoundDone,
    ) -> None:
        mine = self._passed_on.setdefault(asker, set())

        def ended(future: asyncio.Future[Block]) -> None:
            mine.discard(future)
            if not future.cancelled() and future.exception() is not None:
                # That others do not work is no failure of ours: we have it not.
                done(self._none(reference))
            else:
                self._deliver(reference, session, future, [done])

        mine.add(session.fetch(reference, ended, but))

    def _deliver(
        self,
        reference: Reference,
        session: _Session,
        future: asyncio.Future[Block],
        waiting: list[FoundDone],
    ) -> None:
        error = _error_of(future)
        if error is not None:
            _tell(waiting, error)
            return
        block = future.result()
        session.block_size = BlockSize(len(block.data))
        found = Found(block.data, block.is_lent, block.source)
        self._keeper.keep(
            reference, block.data, is_lent=block.is_lent, then=lambda: _tell(waiting, found)
        )

    def _session(self, asker: object, hops: int) -> _Session:
        session = self._sessions.get((asker, hops))
        if session is None:
            peer = self._peer(asker)
            # Else it would take us for silent, when it is somebody else who is.
            patience_s = DEFAULT_PATIENCE_S if peer is None else hops * _PER_HOP_S
            runner = Runner(self._levels[hops], place=self._place, patience_s=patience_s)
            session = self._sessions[asker, hops] = _Session(runner, hops, peer)
        return session

    def _peer(self, asker: object) -> Peer[Line] | None:
        """The peer that asks; None: it is no peer."""
        if isinstance(asker, PeerLink):
            # It may ask before we are done with greeting it.
            return asker.peer
        return self._table.whose(asker) if isinstance(asker, Link) else None

    def _not_asked(self, peer: Peer[Line] | None) -> frozenset[int]:
        """The numbers of those who are not asked on behalf of this one, if it is a peer.

        Itself; nor those that were found: it is only our own wants that their network was trusted
        with.
        """
        return frozenset() if peer is None else self._table.found_numbers | {peer.number}

    # what nobody has

    def _none(self, reference: Reference) -> StoreUnavailable | BlockNotFound:
        """What is said of a block that nobody brought."""
        return Leaving() if self._is_stopping else BlockNotFound(reference)

    def _is_known_nowhere(self, reference: Reference, hops: int) -> bool:
        until, asked = self._nobody.get(reference, (0.0, 0))
        return hops <= asked and asyncio.get_running_loop().time() < until

    def _note_nowhere(self, reference: Reference, hops: int) -> None:
        self._nobody.pop(reference, None)
        self._nobody[reference] = (asyncio.get_running_loop().time() + _NOBODY_S, hops)
        while len(self._nobody) > _MOST_REMEMBERED:
            self._nobody.popitem(last=False)

    # peers

    def _changed(self, peer: Peer[Line]) -> None:
        """A peer can be asked, or cannot any more."""
        if peer.link is None:
            for level in self._levels.values():
                level.remove(peer.number)
            self._waits_for_somebody()
            return
        self._somebody.set()
        peer.standing.came_back()
        peer.standing.tells = isinstance(peer.link, Link)
        # Somebody may have now what nobody had.
        self._nobody.clear()
        for hops, level in self._levels.items():
            level.add(_source_of(peer, hops), peer.standing, peer.number)
        self._early.again()

    def _may_somebody_come(self) -> bool:
        return self._early.is_now or self._waits_for_somebody()

    def _waits_for_somebody(self) -> bool:
        """Whether the last peer is gone, and what is wanted waits for it: from now on."""
        if self._is_stopping or self._table.askable() or not self._table.peers:
            return False
        self._somebody.clear()
        self._early.begin(self._somebody.wait, COMES_BACK_S)
        return True

    def lost(self) -> None:
        """One that was found is there no more: if nobody is left, nobody is waited for."""
        if not self._table.peers:
            self._somebody.set()

    def _hang_up(self, number: int, live: Live) -> None:
        """It gave a wrong block: its connections end. What we dialled is dialled again, later."""
        lines = [one for peer in self._table if peer.number == number for one, _ in peer.links]
        for one in lines:
            # Now: it may be here again before the end of this one is told.
            self._table.left(one)
            one.abort()

    def begin(self, tried: Callable[[], Awaitable[object]]) -> None:
        """Peers are dialled now for the first time; `tried` ends when all were."""
        self._early.begin(tried)

    def stop(self) -> None:
        """Peers are about to be let go."""
        self._is_stopping = True
        self._early.end()

    def close(self) -> None:
        """Nobody asks any more: what came last is handed to the store."""
        self._keeper.flush()


def _source_of(peer: Peer[Line], hops: int) -> Source:
    """What asks it: a server of HTTP knows no Hop-Limit, and asks nobody on our behalf."""
    line = peer.link
    if line is None or isinstance(line, Link):
        return LinkSource(peer, hops)
    return line.source


def _tell(waiting: Sequence[FoundDone], result: Found | ErisError) -> None:
    for done in waiting:
        done(result)


def _is_wrong(future: asyncio.Future[Block]) -> bool:
    """Whether a peer gave something else: then it is not waited for."""
    return not future.cancelled() and isinstance(future.exception(), CorruptBlock)


def _error_of(future: asyncio.Future[Block]) -> ErisError | None:
    if future.cancelled():
        return StoreUnavailable("nobody waits for it any more")
    error = future.exception()
    if isinstance(error, CorruptBlock):
        return StoreUnavailable(f"what peers gave as block {short(error.reference)} was wrong")
    if error is None or isinstance(error, ErisError):
        return error
    raise error
