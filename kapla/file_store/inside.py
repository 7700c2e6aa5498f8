"""Requests about a store that are answered in this process: what a daemon would say to them.

Pins, lists, scrubs and what else a client asks a daemon for are requests over CoAP. A store in a
file answers them with the daemon's own resources, so that each of these things is done in one way.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

from eris.errors import StoreRefused
from kapla.coap.caller import Caller
from kapla.coap.connection import Connection
from kapla.coap.fragments import MAX_ASSEMBLED
from kapla.coap.frame import FrameReader, format_frame, parse_body
from kapla.coap.site import AiocoapLane, Remote
from kapla.storage.access import BlockAccess

__all__ = ["Asker", "Inside"]


class Asker(Remote):
    """Whoever uses the file: they could do anything with it anyway."""

    def __init__(self) -> None:
        super().__init__(Connection())
        self.caller = Caller(os.geteuid(), may_administer=True, may_pin=True)

    @property
    def maximum_payload_size(self) -> int:
        """Nothing is cut into pieces that goes nowhere."""
        return MAX_ASSEMBLED


class Inside:
    """The resources of one open store."""

    def __init__(
        self, access: BlockAccess, report: Callable[[], Awaitable[dict[str, object]]]
    ) -> None:
        self._lane = AiocoapLane(access, report)

    async def ask(self, asker: Asker, code: int, body: bytes) -> tuple[int, bytes]:
        """Answer a request, given as its code, and options and payload; code and payload of it."""
        answer = await self._lane.answer(_frame(format_frame(code, b"", body)), asker)
        answered, _, buffer, start, stop = _frame(answer)
        _, payload = parse_body(buffer, start, stop)
        return answered, payload


def _frame(data: bytes) -> tuple[int, bytes, bytes, int, int]:
    frames = FrameReader().feed(data)
    if len(frames) != 1:
        raise StoreRefused("a request to the store is too long")
    return frames[0]
