"""The session over asyncio: what is asked, what comes back, and what is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from eris.crypto import reference_of
from eris.errors import (
    BlockNotFound,
    CorruptBlock,
    ErisError,
    StoreRefused,
    StoreUnavailable,
)
from eris.model import BlockSize, Reference
from kapla.peers.live import LiveSources
from kapla.peers.runner import Runner
from kapla.peers.source import Block, Source
from tests.clocks import run_without_waiting

BLOCKS = [bytes([number]) * 1024 for number in range(40)]
REFERENCES = [reference_of(block) for block in BLOCKS]
SIZE = BlockSize.SMALL


class Peer:
    """Has some blocks, and answers after a while, or never."""

    def __init__(
        self,
        name: str,
        blocks: Sequence[bytes] = BLOCKS,
        *,
        after_s: float | None = 0.05,
        error: ErisError | None = None,
        lies: bool = False,
        tells: bool = True,
    ) -> None:
        self.name = name
        self.blocks = {reference_of(block): block for block in blocks}
        self.after_s, self.error, self.lies, self.tells = after_s, error, lies, tells
        self.asked: list[Reference] = []
        self.waiting: set[asyncio.Future[Any]] = set()

    def get(self, reference: Reference, block_size: BlockSize | None) -> asyncio.Future[Block]:
        self.asked.append(reference)
        return self._later(self._block(reference))

    def find(self, references: Sequence[Reference]) -> asyncio.Future[list[bool]]:
        if not self.tells:
            return self._later(StoreRefused("it does not tell"))
        return self._later([reference in self.blocks for reference in references])

    def _block(self, reference: Reference) -> Block | ErisError:
        if self.error is not None:
            return self.error
        if self.lies:
            return Block(b"\xff" * 1024, False)
        if reference not in self.blocks:
            return BlockNotFound(reference)
        return Block(self.blocks[reference], True)

    def _later(self, result: object) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self.waiting.add(future)
        future.add_done_callback(self.waiting.discard)

        def answer() -> None:
            if future.done():
                return
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

        if self.after_s is not None:
            loop.call_later(self.after_s, answer)
        return future


def played(
    peers: Sequence[Source], main: Callable[[Runner, LiveSources], Awaitable[None]]
) -> float:
    """Run with these peers on a clock that does not wait; how long it would have taken."""

    async def whole() -> None:
        sources = LiveSources()
        for peer in peers:
            sources.add(peer)
        runner = Runner(sources)
        try:
            await main(runner, sources)
        finally:
            runner.close()

    return run_without_waiting(whole)


async def fetch_all(runner: Runner) -> None:
    blocks = await asyncio.gather(*(runner.fetch(one, SIZE) for one in REFERENCES))
    assert [block.data for block in blocks] == BLOCKS


@pytest.mark.parametrize(
    "other",
    [
        Peer("empty", []),
        Peer("some", BLOCKS[::2]),
        Peer("mute", after_s=None),
        Peer("liar", lies=True),
        Peer("broken", error=StoreUnavailable("no")),
        Peer("untold", [], tells=False),
    ],
    ids=lambda peer: peer.name,
)
@pytest.mark.parametrize("is_first", [True, False])
def test_blocks_come_whatever_the_other_peer_is(other: Peer, is_first: bool) -> None:
    good = Peer("good")

    async def main(runner: Runner, sources: LiveSources) -> None:
        await fetch_all(runner)

    took_s = played([other, good] if is_first else [good, other], main)
    assert took_s < 1.5


def test_a_peer_that_lies_is_left() -> None:
    liar, good = Peer("liar", lies=True), Peer("good", after_s=0.2)

    async def main(runner: Runner, sources: LiveSources) -> None:
        await fetch_all(runner)
        assert [live.source.name for _, live in sources] == ["good"]

    played([liar, good], main)


@pytest.mark.parametrize(
    ("peers", "kind"),
    [
        ([], BlockNotFound),
        ([Peer("a", []), Peer("b", [])], BlockNotFound),
        ([Peer("a", [], tells=False), Peer("b", [])], BlockNotFound),
        ([Peer("a", error=StoreRefused("no")), Peer("b", [])], StoreRefused),
        ([Peer("a", []), Peer("b", error=StoreUnavailable("no"))], StoreUnavailable),
        ([Peer("a", []), Peer("b", lies=True)], CorruptBlock),
        ([Peer("a", []), Peer("b", after_s=None)], StoreUnavailable),
    ],
)
def test_what_nobody_has_is_said(peers: Sequence[Peer], kind: type[ErisError]) -> None:
    async def main(runner: Runner, sources: LiveSources) -> None:
        with pytest.raises(ErisError) as raised:
            await runner.fetch(REFERENCES[0], SIZE)
        assert isinstance(raised.value, kind)

    played(peers, main)


def test_a_block_is_asked_for_once_however_many_wait() -> None:
    peer = Peer("one")

    async def main(runner: Runner, sources: LiveSources) -> None:
        blocks = await asyncio.gather(*(runner.fetch(REFERENCES[0], SIZE) for _ in range(9)))
        assert {block.data for block in blocks} == {BLOCKS[0]}

    played([peer], main)
    assert peer.asked == [REFERENCES[0]]


def test_a_peer_that_is_not_to_be_asked_is_not() -> None:
    async def main(runner: Runner, sources: LiveSources) -> None:
        with pytest.raises(BlockNotFound):
            await runner.fetch(REFERENCES[0], SIZE, but=frozenset({0}))

    peer = Peer("asker")
    played([peer], main)
    assert peer.asked == []


def test_who_gives_up_hinders_nobody_else() -> None:
    peer = Peer("one")

    async def main(runner: Runner, sources: LiveSources) -> None:
        impatient, patient = (runner.fetch(REFERENCES[0], SIZE) for _ in range(2))
        impatient.cancel()
        assert (await patient).data == BLOCKS[0]

    played([peer], main)


def test_a_peer_that_comes_later_is_asked_and_one_that_goes_is_replaced() -> None:
    first, second = Peer("first", after_s=None), Peer("second")

    async def main(runner: Runner, sources: LiveSources) -> None:
        wanted = asyncio.gather(*(runner.fetch(one, SIZE) for one in REFERENCES))
        await asyncio.sleep(0.01)
        sources.add(second)
        sources.remove(0)
        assert [block.data for block in await wanted] == BLOCKS

    played([first], main)


def test_closing_leaves_nothing_behind() -> None:
    mute, good = Peer("mute", after_s=None), Peer("good", after_s=30)

    async def main(runner: Runner, sources: LiveSources) -> None:
        wanted = [runner.fetch(one, SIZE) for one in REFERENCES]
        await asyncio.sleep(0.01)
        assert mute.waiting
        runner.close()
        await asyncio.sleep(0)
        assert not mute.waiting
        assert not good.waiting
        for future in wanted:
            assert isinstance(future.exception(), StoreUnavailable)
        for _, live in sources:
            assert live.standing.outstanding == live.standing.owed == 0
        with pytest.raises(StoreUnavailable):
            await runner.fetch(REFERENCES[0], SIZE)

    assert played([mute, good], main) < 1


def test_sessions_share_a_peer_in_turn() -> None:
    """One that wants much does not keep the other waiting until it has all."""
    peer = Peer("one")

    async def main(runner: Runner, sources: LiveSources) -> None:
        ((_, live),) = sources
        live.standing.window.size = 4 * 1024
        other = Runner(sources)
        many = [runner.fetch(one, SIZE) for one in REFERENCES]
        await asyncio.sleep(0.01)
        few = [other.fetch(one, SIZE) for one in REFERENCES[:4]]
        await asyncio.gather(*few)
        assert not all(future.done() for future in many)
        await asyncio.gather(*many)
        other.close()

    played([peer], main)
