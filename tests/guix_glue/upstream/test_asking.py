"""Several servers asked at once: who wins, who is waited for, and who is passed over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from guix_glue.errors import FetchFailed, TemporaryFailure
from guix_glue.servers.url import Server, parse_server
from guix_glue.upstream.asking import AtOnce, Question
from tests.integration.daemon import GUARD_S

ONE, TWO, THREE = SERVERS = [parse_server(f"http://{name}") for name in ("one", "two", "three")]


class Servers:
    """Servers that answer when they are told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[Server, str]] = []
        self._answers: dict[tuple[Server, str], asyncio.Future[str | None]] = {}

    def answer(self, server: Server, name: str = "x") -> asyncio.Future[str | None]:
        loop = asyncio.get_running_loop()
        return self._answers.setdefault((server, name), loop.create_future())

    async def ask(self, server: Server, name: str) -> str | None:
        self.asked.append((server, name))
        return await self.answer(server, name)


def play(main: Callable[[Servers], Awaitable[None]]) -> None:
    async def guarded() -> None:
        async with asyncio.timeout(GUARD_S):
            await main(Servers())

    asyncio.run(guarded())


def question(name: str = "x") -> Question[str]:
    return Question(name, list(SERVERS), lambda answer: answer != "bad")


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_the_first_good_answer_wins_and_what_came_by_then_is_known() -> None:
    async def main(servers: Servers) -> None:
        way = AtOnce(SERVERS, servers.ask, first=False)
        asked = question()
        task = asyncio.create_task(way.first_good(asked))
        await settled()
        assert {server for server, _ in servers.asked} == set(SERVERS)
        servers.answer(ONE).set_result("bad")
        servers.answer(TWO).set_result(None)
        await settled()
        assert not task.done()
        servers.answer(THREE).set_result("good")
        assert await task == THREE
        assert asked.answers == {ONE: "bad", TWO: None, THREE: "good"}
        await way.close()

    play(main)


def test_where_the_order_counts_those_before_are_waited_for() -> None:
    async def main(servers: Servers) -> None:
        way = AtOnce(SERVERS, servers.ask, first=True)
        task = asyncio.create_task(way.first_good(question()))
        servers.answer(TWO).set_result("second")
        await settled()
        assert not task.done()
        servers.answer(ONE).set_exception(FetchFailed("down"))
        assert await task == TWO
        await way.close()

    play(main)


def test_nobody_has_it() -> None:
    async def main(servers: Servers) -> None:
        way = AtOnce(SERVERS, servers.ask, first=False)
        for server in SERVERS:
            servers.answer(server).set_result(None)
        assert await way.first_good(question()) is None
        servers.answer(ONE, "y").set_exception(TemporaryFailure("later", 7.0))
        servers.answer(TWO, "y").set_exception(FetchFailed("down"))
        servers.answer(THREE, "y").set_result(None)
        asked = question("y")
        with pytest.raises(TemporaryFailure) as caught:
            await way.first_good(asked)
        assert caught.value.pause_s == 7.0
        assert asked.servers == [ONE]
        assert asked.failed == {ONE, TWO}
        await way.close()

    play(main)


def test_who_is_late_is_not_cut_off_but_passed_over_when_that_is_often() -> None:
    async def main(servers: Servers) -> None:
        way = AtOnce(SERVERS, servers.ask, first=False)
        for number in range(50):
            name = str(number)
            servers.answer(ONE, name).set_result("good")
            servers.answer(THREE, name).set_result(None)
            assert await way.first_good(question(name)) == ONE
        late = [name for server, name in servers.asked if server == TWO]
        assert late == [str(number) for number in range(16)]
        # Once it has answered some it is asked again.
        servers.answer(TWO, "3").set_result("good")
        servers.answer(TWO, "4").set_exception(FetchFailed("down"))
        await settled()
        servers.answer(ONE, "a").set_result("good")
        assert await way.first_good(question("a")) == ONE
        assert (TWO, "a") in servers.asked
        await way.close()

    play(main)


def test_who_is_passed_over_is_asked_when_the_others_have_nothing() -> None:
    async def main(servers: Servers) -> None:
        way = AtOnce(SERVERS, servers.ask, first=False)
        for number in range(20):
            servers.answer(ONE, str(number)).set_result("good")
            await way.first_good(question(str(number)))
        servers.answer(ONE, "rare").set_result(None)
        servers.answer(TWO, "rare").set_result("good")
        assert await way.first_good(question("rare")) == TWO
        await way.close()

    play(main)


def test_closing_ends_what_is_under_way() -> None:
    async def main(servers: Servers) -> None:
        before = asyncio.all_tasks()
        way = AtOnce(SERVERS, servers.ask, first=False)
        servers.answer(ONE).set_result("good")
        assert await way.first_good(question()) == ONE
        task = asyncio.create_task(way.first_good(question("never")))
        await settled()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await way.close()
        assert asyncio.all_tasks() == before

    play(main)
