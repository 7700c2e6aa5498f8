"""The event loop of commands: names that do not resolve in time hold nothing up."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from kapla.cli.common import run


def test_a_resolver_that_gets_no_answer_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, answer, answered = threading.Event(), threading.Event(), threading.Event()

    def getaddrinfo(*_: Any) -> list[Any]:
        asked.set()
        answer.wait(10)
        answered.set()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await asyncio.open_connection("slow.example", 80)

    try:
        run(main())
        assert asked.is_set()
        assert not answered.is_set()
    finally:
        answer.set()
    for thread in threading.enumerate():
        if thread.name == "kapla-resolver":
            thread.join(10)
            assert not thread.is_alive()


def test_names_are_resolved() -> None:
    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        return await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)

    assert run(main()) == socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)


@pytest.mark.parametrize("error", [socket.gaierror(-2, "unknown"), UnicodeError("a label")])
def test_names_that_are_not_resolved(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def getaddrinfo(*_: Any) -> list[Any]:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def main() -> None:
        await asyncio.get_running_loop().getaddrinfo("nowhere.example", 80)

    with pytest.raises(type(error)):
        run(main())
