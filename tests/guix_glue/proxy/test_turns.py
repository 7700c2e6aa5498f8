"""Whose turn it is, without sockets, and on a clock that goes by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from guix_glue.proxy.turns import Turn, Turns
from tests.clocks import run_without_waiting


class Client:
    """Takes a turn, and has it until it is told or sent away."""

    def __init__(self, turns: Turns, *, quiet: bool = False) -> None:
        self._turns = turns
        self._quiet = quiet
        self.began: float | None = None
        self.task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        turn = Turn(self._send_away)
        await self._turns.take(turn)
        self.began = asyncio.get_running_loop().time()
        try:
            if self._quiet:
                with turn.waiting():
                    await asyncio.Event().wait()
            await asyncio.Event().wait()
        finally:
            self._turns.give_back(turn)

    def _send_away(self) -> None:
        self.task.cancel()

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        # And what that brings about.
        await asyncio.sleep(0)


def run(main: Callable[[], Awaitable[None]]) -> None:
    run_without_waiting(main)


def begun(clients: list[Client]) -> list[bool]:
    return [client.began is not None for client in clients]


def test_so_many_at_once_in_their_order() -> None:
    async def main() -> None:
        turns = Turns(2)
        clients = [Client(turns) for _ in range(5)]
        await asyncio.sleep(1000)
        assert begun(clients) == [True, True, False, False, False]
        # One that waits no longer is passed over.
        await clients[2].end()
        await clients[1].end()
        assert begun(clients) == [True, True, False, True, False]
        await clients[0].end()
        assert begun(clients) == [True, True, False, True, True]
        late = Client(turns)
        await asyncio.sleep(1)
        assert late.began is None
        for client in (*clients, late):
            await client.end()

    run(main)


def test_whoever_leaves_at_the_moment_of_its_turn_passes_it_on() -> None:
    async def main() -> None:
        turns = Turns(1)
        first, second, third = (Client(turns) for _ in range(3))
        await asyncio.sleep(1)
        first.task.cancel()
        await asyncio.wait([first.task])
        # Its turn has come, and it does not know of it yet.
        second.task.cancel()
        await asyncio.wait([second.task])
        await asyncio.sleep(0)
        assert third.began is not None
        await third.end()

    run(main)


def test_whose_client_takes_nothing_makes_room_for_others() -> None:
    async def main() -> None:
        turns = Turns(3)
        quiet = [Client(turns, quiet=True)]
        await asyncio.sleep(5)
        quiet.append(Client(turns, quiet=True))
        busy = Client(turns)
        # Nobody wants it.
        await asyncio.sleep(1000)
        assert not any(client.task.done() for client in (*quiet, busy))
        others = [Client(turns)]
        await asyncio.sleep(3)
        # The one that was quiet for longest, and no more than it takes.
        assert begun(others) == [True]
        assert [client.task.done() for client in (*quiet, busy)] == [True, False, False]
        others += [Client(turns), Client(turns)]
        await asyncio.sleep(1000)
        assert begun(others) == [True, True, False]
        assert [client.task.done() for client in (*quiet, busy)] == [True, True, False]
        for client in (*others, busy):
            await client.end()

    run(main)


def test_a_client_has_half_a_minute() -> None:
    async def main() -> None:
        turns = Turns(1)
        quiet = Client(turns, quiet=True)
        other = Client(turns)
        await asyncio.sleep(29)
        assert other.began is None
        await asyncio.sleep(4)
        assert other.began is not None
        assert quiet.task.done()
        await other.end()

    run(main)
