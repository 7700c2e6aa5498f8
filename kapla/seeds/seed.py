"""One seed: a connection on which somebody has said that he can make blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from eris.model import BlockSize, Reference
from kapla.coap.blocks import block_query, get_options_by_size, put_options
from kapla.coap.frame import Code
from kapla.coap.link import Link
from kapla.coap.requester import Requester
from kapla.seeds.health import Health
from kapla.seeds.turns import InTurn
from kapla.seeds.wish import Wish

__all__ = ["MOST_OF_A_KIND", "MOST_UNDER_WAY", "Seed"]

MOST_UNDER_WAY: Final = 256
"""Questions at a time: enough for a hundred thousand a second, and 8 MiB of answers."""

MOST_OF_A_KIND: Final = 192
"""For those who are near, and for all others: neither waits for what takes the other long."""

_MANY: Final = 8
# One that says nothing for so long is no use, and may connect again.
_SILENT_S: Final = 60.0
_ONE_HOP: Final = 1
_GETS: Final = {near: get_options_by_size((), _ONE_HOP, near=near) for near in (False, True)}
_FETCHES: Final = {near: put_options((), _ONE_HOP, near=near) + b"\xff" for near in (False, True)}


class Seed:
    """Asks it. `uid`: of the user who runs it."""

    def __init__(self, link: Link, uid: int) -> None:
        self.link = link
        self.uid = uid
        self.name = f"the seed of user {uid}"
        self.health = Health(MOST_UNDER_WAY)
        # What is asked of it as soon as there is room, and how much is: for who is near, and not.
        self._waiting: dict[bool, InTurn[Wish]] = {True: InTurn(), False: InTurn()}
        self._under_way = {True: 0, False: 0}
        self.gathered: list[Wish] = []
        """Of which it is asked at the end of this turn of the loop whether it has them."""
        self._missing = 0
        self._asking = Requester(link, self.name, MOST_UNDER_WAY, _SILENT_S)
        # What it gave last: a content has blocks of one size.
        self._block_size = BlockSize.LARGE
        link.ask_too(self._asking)

    @property
    def is_there(self) -> bool:
        """Whether it can be asked anything."""
        return self._asking.usable

    def may_be_asked(self, now: float) -> bool:
        """Whether there is room for a question, or one may try it."""
        return self.is_there and (self.health.has_room or self.health.may_be_tried(now))

    def has_room_for(self, wish: Wish, now: float) -> bool:
        """Whether it may be asked for this at once, before whatever waits."""
        return not self._waiting[wish.is_near] and self._has_room(now, is_near=wish.is_near)

    def _has_room(self, now: float, *, is_near: bool) -> bool:
        return self._under_way[is_near] < MOST_OF_A_KIND and self.may_be_asked(now)

    def wait(self, wish: Wish) -> None:
        """Ask for it when there is room."""
        self._waiting[wish.is_near].add(wish.asker, wish)

    @property
    def is_waited_for(self) -> bool:
        """Whether something waits for room."""
        return any(self._waiting.values())

    def next_waiting(self, now: float) -> Wish | None:
        """What it may be asked for next of what waits: whoever is near goes first."""
        for is_near, waiting in self._waiting.items():
            if waiting and self._has_room(now, is_near=is_near):
                return waiting.take()
        return None

    def leave(self, asker: object) -> None:
        """This one waits for nothing any more."""
        for waiting in self._waiting.values():
            waiting.leave(asker)

    def forget_waiting(self) -> None:
        """Nothing waits any more."""
        for waiting in self._waiting.values():
            waiting.clear()

    def get(self, wish: Wish) -> asyncio.Future[bytes]:
        """Ask for a block, which is not compared with its reference.

        Raises: BlockNotFound, CorruptBlock, StoreError.
        """
        size, reference, is_near = self._block_size, wish.reference, wish.is_near
        before, behind = _GETS[is_near][size]
        body = before + block_query(reference) + behind
        request = self._asking.want(body, reference, int(size), _block)
        self._under_way[is_near] += 1
        request.add_done_callback(lambda _: self._answered(is_near=is_near))
        return request

    def _answered(self, *, is_near: bool) -> None:
        self._under_way[is_near] -= 1

    @property
    def lacks_much(self) -> bool:
        """Whether it had none of the last blocks: then it is asked which of many it has, first."""
        return self._missing >= _MANY

    def gave(self, block: bytes) -> None:
        """It had a block, and that was right."""
        self._missing = 0
        self._block_size = BlockSize(len(block))

    def lacked(self) -> None:
        """It had not what it was asked for."""
        self._missing += 1

    def find(self, references: Sequence[Reference], *, is_near: bool) -> asyncio.Future[Any]:
        """Ask which blocks it could give; the answer is a bitmap. Raises: StoreError."""
        body = _FETCHES[is_near] + b"".join(references)
        return self._asking.request(Code.FETCH, body, b"", 0)

    def send_away(self, reason: str) -> None:
        """End the connection, and say why."""
        self.link.cut_off(reason)


def _block(data: bytes, _: bool) -> bytes:
    """What it has is public, whether it says so or not."""
    return data
