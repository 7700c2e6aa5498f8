"""A seed without a program: what it is asked is noted, and answered when the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from eris import Reference, reference_of
from eris.errors import ErisError, StoreUnavailable
from kapla.coap.beyond import Found, FoundDone
from kapla.coap.blocks import pack_bitmap, parse_block_query, split_references
from kapla.coap.frame import Code, Message, format_message
from kapla.coap.link import Link
from kapla.seeds.first import SeedsFirst
from kapla.seeds.seeds import Seeds
from tests.clocks import run_without_waiting
from tests.kapla.coap.harness import EMPTY_CSM, FakeTransport, parse_messages

__all__ = ["BLOCKS", "LARGE_BLOCKS", "NAMES", "House", "Others", "Played", "played", "settle"]

BLOCKS = [bytes([number]) * 1024 for number in range(40)]
LARGE_BLOCKS = [bytes([number]) * 32768 for number in range(40)]
NAMES = [reference_of(block) for block in BLOCKS]
USER = 1000
_TURNS = 8


class Played:
    """One seed."""

    def __init__(self, seeds: Seeds, blocks: Sequence[bytes] = BLOCKS, uid: int = USER) -> None:
        self.blocks = {reference_of(block): block for block in blocks}
        self.link = Link()
        self.transport = FakeTransport(self.link, uid)
        self.link.connection_made(self.transport)
        self.link.connection.receive(EMPTY_CSM)
        self._seen = len(self.transport.output)
        self._asked: list[Message] = []
        seeds.enter(self.link, uid)

    @property
    def asked(self) -> list[Message]:
        """What it was asked and has not answered, the oldest first."""
        output = bytes(self.transport.output[self._seen :])
        self._seen += len(output)
        self._asked += parse_messages(output)
        return self._asked

    @property
    def names(self) -> list[Reference]:
        """The blocks that these are about."""
        return [name_of(message) for message in self.asked if message.code == Code.GET]

    def say(self, code: int, payload: bytes = b"") -> None:
        """Answer the oldest question like this."""
        message = self.asked.pop(0)
        self.link.data_received(format_message(code, message.token, payload=payload))

    def answer(self, count: int | None = None) -> None:
        """Answer questions with what there is, all of them or so many."""
        for message in self.asked[:count]:
            if message.code == Code.FETCH:
                names = split_references(message.payload)
                self.say(Code.CONTENT, pack_bitmap([name in self.blocks for name in names]))
                continue
            block = self.blocks.get(name_of(message))
            self.say(Code.NOT_FOUND if block is None else Code.CONTENT, block or b"")

    def go(self) -> None:
        """End the connection."""
        self.transport.abort()


def name_of(message: Message) -> Reference:
    (query,) = [value for number, value in message.options if number == 15]
    return parse_block_query(query)


class Others:
    """Peers: what they are asked is noted, and answered when the test says."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Reference, int, object, FoundDone]] = []
        self.sought: list[list[Reference]] = []
        self.left: list[object] = []

    def fetch(self, reference: Reference, hops: int, asker: object, done: FoundDone) -> None:
        self.waiting.append((reference, hops, asker, done))

    async def find(self, references: Sequence[Reference], hops: int, asker: object) -> list[bool]:
        self.sought.append(list(references))
        return [True for _ in references]

    def leave(self, asker: object) -> None:
        self.left.append(asker)
        mine = [done for _, _, one, done in self.waiting if one is asker]
        self.waiting = [item for item in self.waiting if item[2] is not asker]
        for done in mine:
            done(StoreUnavailable("gone"))

    def say(self, result: Found | ErisError) -> None:
        """Answer the oldest question."""
        self.waiting.pop(0)[3](result)


class House:
    """Seeds, peers, and what came of what was asked of them."""

    def __init__(self, *, with_others: bool = True) -> None:
        self.seeds = Seeds([USER])
        self.others = Others()
        self.near: set[object] = set()
        others = self.others if with_others else None
        self.reach = SeedsFirst(self.seeds, others, lambda asker: asker in self.near)
        self.results: dict[Reference, Found | ErisError] = {}

    def fetch(self, *numbers: int, hops: int = 4, asker: object = None) -> None:
        """Ask for blocks."""
        for number in numbers:
            self.ask(NAMES[number], hops, asker)

    def ask(self, name: Reference, hops: int, asker: object) -> None:
        """Ask for any block."""

        def done(result: Found | ErisError) -> None:
            assert name not in self.results, "answered twice"
            self.results[name] = result

        self.reach.fetch(name, hops, asker, done)

    def result(self, number: int) -> Found | ErisError | None:
        """What came of one; None: nothing yet."""
        return self.results.get(NAMES[number])


def played(test: Callable[[House], Awaitable[None]], *, with_others: bool = True) -> None:
    """Run on a clock that does not wait."""

    async def main() -> None:
        await test(House(with_others=with_others))

    run_without_waiting(main)


async def settle() -> None:
    """Let everything happen that can without time."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)
