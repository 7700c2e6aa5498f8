"""The event loop of programs: names that do not resolve in time hold nothing up."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from kapla import log
from kapla.__main__ import command as kaplad
from kapla.cli.common import run


def test_a_resolver_that_gets_no_answer_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, answer, answered = threading.Event(), threading.Event(), threading.Event()

    def getaddrinfo(*_: Any) -> list[Any]:
        asked.set()
        answer.wait(60)
        answered.set()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def main() -> None:
        opening = asyncio.ensure_future(asyncio.open_connection("slow.example", 80))
        assert await asyncio.to_thread(asked.wait, 60)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

    try:
        run(main())
        assert not answered.is_set()
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
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


def test_the_daemon_ends_at_once_though_a_name_of_a_peer_does_not_resolve(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked, answer, answered = threading.Event(), threading.Event(), threading.Event()

    def getaddrinfo(host: object, *_: Any) -> list[Any]:
        asked.set()
        os.kill(os.getpid(), signal.SIGTERM)
        answer.wait(60)
        answered.set()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(sys, "setswitchinterval", lambda _: None)
    monkeypatch.setattr(log, "configure", lambda *_: None)
    try:
        kaplad.main(
            [
                *("--store", str(tmp_path / "store")),
                *("--listen", f"coap+unix://{tmp_path}/s"),
                *("--peer", "coap+tcp://slow.example"),
            ],
            standalone_mode=False,
        )
        assert asked.is_set()
        assert not answered.is_set()
    finally:
        answer.set()
