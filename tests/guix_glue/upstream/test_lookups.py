"""Look-ups are shared out: nobody waits for what others ask for, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from guix_glue.errors import FetchFailed
from guix_glue.serving.clients import Client, ClientLeft
from guix_glue.upstream.lookups import Lookups
from tests.clocks import run_without_waiting

ROUND_TRIP_S = 0.1


class Server:
    """Takes a round trip for each name; knows what it was asked, and how much at once."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.known: set[str] = set()
        self.at_once = 0
        self.most_at_once = 0

    async def look_up(self, name: str) -> str:
        self.asked.append(name)
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            await asyncio.sleep(ROUND_TRIP_S)
            if name.startswith("bad"):
                raise FetchFailed("it fails")
            self.known.add(name)
            return name.upper()
        finally:
            self.at_once -= 1


def run(main: Callable[[Server, Lookups[str]], Awaitable[None]]) -> None:
    async def within() -> None:
        complaints: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: complaints.append(context)
        )
        server = Server()
        lookups = Lookups(server.look_up, lambda name: name not in server.known)
        tasks = asyncio.all_tasks()
        try:
            await main(server, lookups)
        finally:
            await lookups.close()
        assert server.at_once == 0
        assert asyncio.all_tasks() == tasks
        assert complaints == []

    run_without_waiting(within)


async def pipeline(server: Server, lookups: Lookups[str], names: list[str]) -> None:
    """What a connection does that sends all its requests at once, and gets one after the other."""
    client = Client()
    lookups.expect(client, names)
    for name in names:
        lookups.passed(client, name)
        if name not in server.known:
            await lookups.get(client, name)


@pytest.mark.parametrize("greedy", [1, 2, 50, 500])
def test_one_question_takes_two_round_trips_beside_any_number_of_greedy_clients(
    greedy: int,
) -> None:
    async def main(server: Server, lookups: Lookups[str]) -> None:
        loop = asyncio.get_running_loop()
        tasks = [
            asyncio.create_task(pipeline(server, lookups, [f"g{number}-{n}" for n in range(4000)]))
            for number in range(greedy)
        ]
        await asyncio.sleep(10 * ROUND_TRIP_S + 0.01)
        # One that asks for the first time, and again after a pause.
        client = Client()
        for pause_s in (0.0, 20.0):
            await asyncio.sleep(pause_s)
            began = loop.time()
            assert await lookups.get(client, f"one-{pause_s}") == f"ONE-{pause_s}"
            assert loop.time() - began <= 2 * ROUND_TRIP_S + 0.001
        assert server.most_at_once <= 32
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(main)


def test_clients_have_equal_shares() -> None:
    async def main(server: Server, lookups: Lookups[str]) -> None:
        loop = asyncio.get_running_loop()
        clients = {
            name: asyncio.create_task(
                pipeline(server, lookups, [f"{name}-{n}" for n in range(1000)])
            )
            for name in ("a", "b", "c")
        }
        # One has asked for everything before the others came.
        await asyncio.sleep(loop.time() + 50 * ROUND_TRIP_S)
        served = Counter(name[0] for name in server.asked)
        assert max(served.values()) - min(served.values()) <= 32
        for task in clients.values():
            task.cancel()
        await asyncio.gather(*clients.values(), return_exceptions=True)

    run(main)


def test_a_thousand_requests_of_one_client_do_not_wait_for_each_other() -> None:
    async def main(server: Server, lookups: Lookups[str]) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await pipeline(server, lookups, [f"n{n}" for n in range(1000)])
        assert loop.time() - began <= (1000 / 20) * ROUND_TRIP_S
        assert len(server.asked) == len(set(server.asked)) == 1000

    run(main)


def test_what_is_expected_is_looked_for_a_few_dozen_names_ahead() -> None:
    async def main(server: Server, lookups: Lookups[str]) -> None:
        # It takes no reply.
        lookups.expect(Client(), [f"n{n}" for n in range(4000)])
        await asyncio.sleep(100)
        assert server.asked == [f"n{n}" for n in range(32)]

    run(main)


def test_what_is_known_is_not_looked_for() -> None:
    async def main(server: Server, lookups: Lookups[str]) -> None:
        server.known = {"known-1", "known-2"}
        lookups.expect(Client(), ["known-1", "a", "known-2", "b"])
        await asyncio.sleep(1)
        assert server.asked == ["a", "b"]

    run(main)


def test_what_a_client_asked_for_that_has_gone_is_not_looked_for() -> None:
    async def main(server: Server, lookups: Lookups[str]) -> None:
        busy = [asyncio.create_task(lookups.get(Client(), f"busy-{n}")) for n in range(32)]
        await asyncio.sleep(0)
        client, other = Client(), Client()
        lookups.expect(client, ["a", "b"])
        waiting = asyncio.create_task(lookups.get(client, "c"))
        shared = asyncio.create_task(lookups.get(client, "d"))
        others = asyncio.create_task(lookups.get(other, "d"))
        await asyncio.sleep(0)
        client.leave()
        with pytest.raises(ClientLeft):
            await waiting
        with pytest.raises(ClientLeft):
            await shared
        assert await others == "D"
        await asyncio.gather(*busy)
        await asyncio.sleep(1)
        assert server.asked == [f"busy-{n}" for n in range(32)] + ["d"]

    run(main)


def test_one_who_loses_interest_is_nothing_to_the_others() -> None:
    async def main(server: Server, lookups: Lookups[str]) -> None:
        tasks = [asyncio.create_task(lookups.get(Client(), "a")) for _ in range(3)]
        bad = [asyncio.create_task(lookups.get(Client(), "bad")) for _ in range(3)]
        await asyncio.sleep(ROUND_TRIP_S / 2)
        tasks[0].cancel()
        bad[0].cancel()
        done = await asyncio.gather(*tasks[1:], *bad[1:], return_exceptions=True)
        assert done[:2] == ["A", "A"]
        assert [type(error) for error in done[2:]] == [FetchFailed, FetchFailed]
        # And what failed is looked for again.
        with pytest.raises(FetchFailed):
            await lookups.get(Client(), "bad")
        assert sorted(server.asked) == ["a", "bad", "bad"]

    run(main)


def test_closing_ends_all_who_wait() -> None:
    async def main(server: Server, lookups: Lookups[str]) -> None:
        tasks = [asyncio.create_task(lookups.get(Client(), f"n{n}")) for n in range(100)]
        await asyncio.sleep(0)
        await lookups.close()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(error) for error in done} == {FetchFailed}
        with pytest.raises(FetchFailed):
            await lookups.get(Client(), "later")

    run(main)


@pytest.mark.parametrize("seed", range(20))
def test_whoever_goes_at_any_moment_leaves_nothing(seed: int) -> None:
    choose = random.Random(seed)

    async def main(server: Server, lookups: Lookups[str]) -> None:
        clients: list[Client] = []
        tasks: list[asyncio.Task[str]] = []
        seen = weakref.WeakSet[Client]()
        for _ in range(300):
            match choose.randrange(6):
                case 0:
                    clients.append(Client())
                    seen.add(clients[-1])
                case 1 if clients:
                    names = [f"n{choose.randrange(50)}" for _ in range(choose.randrange(60))]
                    lookups.expect(choose.choice(clients), names)
                case 2 | 3 if clients:
                    name = choose.choice(("n", "bad", "known")) + str(choose.randrange(50))
                    tasks.append(asyncio.create_task(lookups.get(choose.choice(clients), name)))
                case 4 if tasks:
                    choose.choice(tasks).cancel()
                case 5 if clients:
                    clients.pop(choose.randrange(len(clients))).leave()
            for _ in range(choose.randrange(4)):
                await asyncio.sleep(choose.choice((0.0, 0.0, ROUND_TRIP_S / 3)))
            assert server.at_once <= 32
        while clients:
            clients.pop().leave()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        allowed = (str, FetchFailed, ClientLeft, asyncio.CancelledError)
        assert all(isinstance(one, allowed) for one in done)
        # All places are free again: nobody waits for more than a turn.
        await asyncio.sleep(10)
        assert server.at_once == 0
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.gather(*(lookups.get(Client(), f"free-{n}") for n in range(32)))
        assert loop.time() - began <= ROUND_TRIP_S + 0.001
        tasks.clear()
        done.clear()
        gc.collect()
        assert len(seen) == 0

    run(main)


@pytest.mark.parametrize("answered", [0, 30, 59])
def test_what_was_answered_before_its_turn_is_not_looked_for(answered: int) -> None:
    async def main(server: Server, lookups: Lookups[str]) -> None:
        clients = [Client() for _ in range(60)]
        for number, client in enumerate(clients):
            lookups.expect(client, [f"n{number}"])
        # Of a moment ago, from another's question.
        lookups.passed(clients[answered], f"n{answered}")
        await asyncio.sleep(4 * ROUND_TRIP_S)
        others = {f"n{number}" for number in range(60) if number != answered}
        assert server.known - {f"n{answered}"} == others

    run(main)
