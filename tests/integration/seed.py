"""A seed that the tests play: a raw peer on a daemon's Unix socket, and a thread that answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eris import Reference, reference_of
from kapla.coap.blocks import pack_bitmap, parse_block_query, split_references
from kapla.coap.frame import Code, Message
from tests.integration.daemon import GUARD_S, Daemon, RawPeer

__all__ = ["SEED", "PlayedSeed", "seeding"]

SEED = [(11, b"kapla"), (11, b"seed")]
"""The path where one says that one is a seed."""

_NEAR = 65004


class PlayedSeed:
    """Answers with some blocks, as long as it is there."""

    def __init__(self, peer: RawPeer, blocks: Iterable[bytes]) -> None:
        self.peer = peer
        self.blocks = {reference_of(block): block for block in blocks}
        self.asked: list[tuple[Reference, bool]] = []
        """For which blocks, and whether somebody near wanted them."""
        self.sought: list[Reference] = []
        """About which it was asked whether it could make them."""
        self.was_asked = threading.Event()
        self.is_silent = False
        self.dies = False
        """Whether the next question is the last."""
        self.lies = False
        self.ended: Message | None = None
        """The signal that ended the connection."""
        answer = peer.request(Code.POST, b"seed", SEED)
        assert answer.code == Code.CHANGED, answer
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Until the connection has ended."""
        self._thread.join(GUARD_S)
        assert not self._thread.is_alive()

    def close(self) -> None:
        """End it."""
        with suppress(OSError):
            self.peer.socket.shutdown(socket.SHUT_RDWR)
        self.wait()
        self.peer.close()

    def _answer(self) -> None:
        while (message := self.peer.receive()) is not None:
            if message.code == Code.GET:
                self._answer_get(message)
            elif message.code == Code.FETCH:
                self._answer_fetch(message)
            elif message.code in (Code.ABORT, Code.RELEASE):
                self.ended = message
            if self.dies and self.was_asked.is_set():
                self.peer.socket.shutdown(socket.SHUT_RDWR)
                return

    def _answer_get(self, message: Message) -> None:
        [query] = [value for number, value in message.options if number == 15]
        name = parse_block_query(query)
        self.asked.append((name, any(number == _NEAR for number, _ in message.options)))
        self.was_asked.set()
        block = self.blocks.get(name)
        if self.is_silent or self.dies:
            return
        if block is None:
            self._say(Code.NOT_FOUND, message)
        else:
            self._say(Code.CONTENT, message, bytes(len(block)) if self.lies else block)

    def _answer_fetch(self, message: Message) -> None:
        names = split_references(message.payload)
        self.sought += names
        self.was_asked.set()
        if not self.is_silent:
            self._say(Code.CONTENT, message, pack_bitmap([name in self.blocks for name in names]))

    def _say(self, code: int, message: Message, payload: bytes = b"") -> None:
        # Who is gone is noticed by the reading.
        with suppress(OSError):
            self.peer.send_message(code, message.token, (), payload)


@contextmanager
def seeding(place: Daemon | Path, blocks: Iterable[bytes]) -> Iterator[PlayedSeed]:
    """A seed of a daemon, until the end of the context."""
    path = place.socket if isinstance(place, Daemon) else place
    seed = PlayedSeed(RawPeer.unix(path), blocks)
    try:
        yield seed
    finally:
        seed.close()
