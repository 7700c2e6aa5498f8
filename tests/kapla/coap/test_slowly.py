"""What takes long is made in turn, without threads and without waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any

from kapla.coap.slowly import FAR_AT_ONCE, Slowly
from tests.clocks import run_without_waiting

LONGEST_S = 100.0


@dataclass(frozen=True)
class Later:
    key: str
    make: Callable[[], bytes | None]


class Threads(Executor):
    """Does what it was given when the test says."""

    def __init__(self) -> None:
        self.given: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.given.append((future, lambda: function(*args, **kwargs)))
        return future

    def work(self) -> None:
        """Do the oldest that nobody took back."""
        while not (given := self.given.pop(0))[0].set_running_or_notify_cancel():
            pass
        given[0].set_result(given[1]())


class Stage:
    """Things to be made, each of which takes a second, and what came of who waited."""

    def __init__(self) -> None:
        self.now = 0.0
        self.threads = Threads()
        self.made: dict[str, bytes | None] = {}
        self.late: list[str] = []
        self.slowly: Slowly[str] = Slowly(
            self.threads,
            LONGEST_S,
            on_made=self._note,
            on_again=lambda ones: None,
            on_late=self.late.extend,
            clock=lambda: self.now,
        )

    def _note(self, ones: Sequence[str], block: bytes | None) -> None:
        self.made.update(dict.fromkeys(ones, block))

    def add(self, *keys: str, near: bool = False, takes_s: float = 1.0) -> None:
        def make(key: str) -> bytes:
            self.now += takes_s
            return key.encode()

        for key in keys:
            self.slowly.add(key, Later(key, lambda key=key: make(key)), near=near)  # type: ignore[misc]

    async def work(self) -> None:
        self.threads.work()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def test_after_what_was_dear_for_others_there_is_a_pause() -> None:
    async def test() -> None:
        stage = Stage()
        stage.add("a", "b", "c", "d")
        assert len(stage.threads.given) == FAR_AT_ONCE
        await stage.work()
        assert stage.made == {"a": b"a"}
        await asyncio.sleep(0.9)
        assert len(stage.threads.given) == FAR_AT_ONCE - 1
        # Who is near waits for none of it.
        stage.add("near", near=True)
        assert len(stage.threads.given) == FAR_AT_ONCE
        await asyncio.sleep(0.2)
        assert len(stage.threads.given) == FAR_AT_ONCE + 1
        assert stage.slowly.waiting == 4

    run_without_waiting(test)


def test_after_what_was_cheap_there_is_none() -> None:
    async def test() -> None:
        stage = Stage()
        stage.add("a", "b", "c", takes_s=0.01)
        for _ in range(3):
            await stage.work()
        assert stage.made == {"a": b"a", "b": b"b", "c": b"c"}

    run_without_waiting(test)


def test_what_was_taken_back_makes_room_at_once() -> None:
    async def test() -> None:
        stage = Stage()
        stage.add("a", "b", "c")
        await asyncio.sleep(LONGEST_S + 1)
        assert sorted(stage.late) == ["a", "b", "c"]
        stage.add("d", "e")
        await stage.work()
        await stage.work()
        assert stage.made == {"d": b"d", "e": b"e"}
        stage.add("f")
        stage.slowly.forget()
        assert stage.slowly.waiting == 0
        await asyncio.sleep(2)
        assert not any(not future.cancelled() for future, _ in stage.threads.given)

    run_without_waiting(test)
