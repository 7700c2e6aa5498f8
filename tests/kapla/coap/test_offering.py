"""A seed's end of the wire, against a daemon played byte by byte."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from eris.base32 import format_base32_reference
from eris.crypto import reference_of
from eris.errors import StoreUnavailable
from eris.model import Reference
from kapla.coap.frame import (
    Code,
    FrameReader,
    Message,
    Option,
    format_message,
    parse_body,
)
from kapla.seeding import SeedRefused, stay_connected
from kapla.urls import parse_store_url

NEAR = 65004
BLOCKS: list[Option] = [(11, b".well-known"), (11, b"eris"), (11, b"blocks")]
SMALL, LARGE = b"a" * 1024, b"b" * 32768
GUARD_S = 60.0


@dataclass(frozen=True)
class Later:
    key: str
    make: Callable[[], bytes | None]


class Maker:
    """Makes two blocks at once, one that takes long for whoever is near, and fails for a fourth."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.made_later = 0
        self.slow = reference_of(b"c" * 1024)
        self.bad = reference_of(b"d" * 1024)

    def end(self) -> None:
        """Keep no thread any longer."""
        self.go_on.set()

    def make(self, references: Sequence[Reference], *, near: bool) -> list[bytes | Later | None]:
        return [self._one(reference, near) for reference in references]

    def find(self, references: Sequence[Reference], *, near: bool) -> list[bool]:
        return [self._one(reference, near) is not None for reference in references]

    def _one(self, reference: bytes, near: bool) -> bytes | Later | None:
        if reference == self.bad:
            raise RuntimeError("a mistake")
        if reference == self.slow and near:
            return Later("slow", self._later)
        return {reference_of(SMALL): SMALL, reference_of(LARGE): LARGE}.get(Reference(reference))

    def _later(self) -> bytes:
        self.made_later += 1
        assert self.go_on.wait(GUARD_S)
        return b"c" * 1024


class Daemon:
    """The daemon's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._frames = FrameReader()
        self._messages: list[Message] = []

    async def receive(self) -> Message:
        while not self._messages:
            data = await self._reader.read(65536)
            if not data:
                raise EOFError
            for code, token, buffer, start, stop in self._frames.feed(data):
                self._messages.append(Message(code, token, *parse_body(buffer, start, stop)))
        return self._messages.pop(0)

    def send(
        self, code: int, token: bytes, options: Sequence[Option] = (), payload: bytes = b""
    ) -> None:
        self.writer.write(format_message(code, token, options, payload))

    async def accept(self) -> None:
        """Greet, and take it for a seed."""
        self.send(Code.CSM, b"")
        assert (await self.receive()).code == Code.CSM
        post = await self.receive()
        assert (post.code, post.payload) == (Code.POST, b"")
        assert post.values(11) == [b"kapla", b"seed"]
        self.send(Code.CHANGED, post.token)

    def get(self, reference: bytes, token: bytes, *, near: bool = True) -> None:
        query = (15, format_base32_reference(Reference(reference)))
        more = [(NEAR, b"")] if near else []
        self.send(Code.GET, token, [*BLOCKS, query, (16, b"\1"), (60, b"\x04\0"), *more])

    async def answers(self, count: int) -> dict[bytes, Message]:
        found = [await self.receive() for _ in range(count)]
        return {message.token: message for message in found}


@asynccontextmanager
async def seeding(
    maker: Maker, longest_s: float, at_once: int
) -> AsyncIterator[tuple[asyncio.Queue[Daemon], asyncio.Task[None]]]:
    """A seed that connects to a socket here; its connections, and what keeps it connected."""
    arrived: asyncio.Queue[Daemon] = asyncio.Queue()
    with TemporaryDirectory(prefix="kapla-") as directory:
        path = Path(directory) / "s"

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            arrived.put_nowait(Daemon(reader, writer))

        server = await asyncio.start_unix_server(accept, path)
        with ThreadPoolExecutor(2) as workers, ThreadPoolExecutor(1) as slow:
            url = parse_store_url(f"coap+unix://{path}")
            task = asyncio.create_task(
                stay_connected(url, maker, workers, slow, at_once=at_once, longest_s=longest_s)
            )
            try:
                yield arrived, task
            finally:
                maker.end()
                task.cancel()
                await asyncio.wait([task])
                server.close()


def play(
    script: Callable[[Maker, asyncio.Queue[Daemon], asyncio.Task[None]], object],
    longest_s: float = GUARD_S,
    maker: Callable[[], Maker] = Maker,
    at_once: int = 2,
) -> None:
    async def run() -> None:
        played = maker()
        seed = seeding(played, longest_s, at_once)
        async with asyncio.timeout(GUARD_S), seed as (arrived, task):
            await script(played, arrived, task)  # type: ignore[misc]

    asyncio.run(run())


def test_blocks_are_given_in_any_order() -> None:
    async def script(maker: Maker, arrived: asyncio.Queue[Daemon], _: asyncio.Task[None]) -> None:
        daemon = await arrived.get()
        await daemon.accept()
        daemon.get(maker.slow, b"1")
        daemon.get(reference_of(SMALL), b"2")
        daemon.get(reference_of(LARGE), b"3", near=False)
        daemon.get(bytes(32), b"4")
        daemon.get(maker.slow, b"5", near=False)
        found = await daemon.answers(4)
        assert found[b"2"].payload == SMALL
        assert found[b"3"].payload == LARGE
        assert found[b"4"].code == found[b"5"].code == Code.NOT_FOUND
        maker.go_on.set()
        assert (await daemon.receive()).payload == b"c" * 1024

    play(script)


def test_what_is_made_together_is_made_once_at_a_time() -> None:
    async def script(maker: Maker, arrived: asyncio.Queue[Daemon], _: asyncio.Task[None]) -> None:
        daemon = await arrived.get()
        await daemon.accept()
        for number in range(20):
            daemon.get(maker.slow, bytes([number]))
        daemon.get(reference_of(SMALL), b"last")
        assert (await daemon.receive()).token == b"last"
        assert maker.made_later == 1
        maker.go_on.set()
        found = await daemon.answers(20)
        assert {message.payload for message in found.values()} == {b"c" * 1024}
        assert len(found) == 20

    play(script)


def test_nobody_waits_for_long() -> None:
    async def script(maker: Maker, arrived: asyncio.Queue[Daemon], _: asyncio.Task[None]) -> None:
        daemon = await arrived.get()
        await daemon.accept()
        for token in (b"1", b"2"):
            daemon.get(maker.slow, token)
        found = await daemon.answers(2)
        assert {message.code for message in found.values()} == {Code.SERVICE_UNAVAILABLE}
        # It is made all the same, once.
        while not maker.made_later:
            answer = await _asked_again(daemon, maker.slow)
            assert answer.code == Code.SERVICE_UNAVAILABLE
        answer = await _asked_again(daemon, maker.slow)
        assert answer.code == Code.SERVICE_UNAVAILABLE
        assert maker.made_later == 1
        maker.go_on.set()
        while (answer := await _asked_again(daemon, maker.slow)).code != Code.CONTENT:
            assert answer.code == Code.SERVICE_UNAVAILABLE
        assert answer.payload == b"c" * 1024

    async def _asked_again(daemon: Daemon, reference: bytes) -> Message:
        daemon.get(reference, b"4")
        return await daemon.receive()

    play(script, longest_s=0.05)


class ManyLater(Maker):
    """All blocks but one take long, each by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = [number.to_bytes(2, "big") * 512 for number in range(300)]
        self.names = [reference_of(block) for block in self.blocks]
        self.begun: list[int] = []
        self.has_begun = threading.Semaphore(0)
        self.permits = threading.Semaphore(0)

    def end(self) -> None:
        self.permits.release(1000)

    def _one(self, reference: bytes, near: bool) -> bytes | Later | None:
        if reference == reference_of(SMALL):
            return SMALL
        number = self.names.index(Reference(reference))
        return Later(str(number), lambda: self._make(number))

    def _make(self, number: int) -> bytes:
        self.begun.append(number)
        self.has_begun.release()
        assert self.permits.acquire(timeout=GUARD_S)
        return self.blocks[number]

    async def begins(self, count: int) -> None:
        """Until so many more were begun."""
        for _ in range(count):
            assert await asyncio.to_thread(self.has_begun.acquire, timeout=GUARD_S)


def test_many_that_take_long_are_all_made() -> None:
    async def script(maker: Maker, arrived: asyncio.Queue[Daemon], _: asyncio.Task[None]) -> None:
        assert isinstance(maker, ManyLater)
        daemon = await arrived.get()
        await daemon.accept()
        for number, name in enumerate(maker.names):
            daemon.get(name, number.to_bytes(2, "big"), near=number % 2 == 0)
        await maker.begins(1)
        maker.permits.release(300)
        found = await daemon.answers(300)
        assert [found[n.to_bytes(2, "big")].payload for n in range(300)] == maker.blocks

    play(script, maker=ManyLater)


def test_who_is_near_does_not_wait_for_all_that_others_want() -> None:
    async def script(maker: Maker, arrived: asyncio.Queue[Daemon], _: asyncio.Task[None]) -> None:
        assert isinstance(maker, ManyLater)
        daemon = await arrived.get()
        await daemon.accept()
        for number in range(100):
            daemon.get(maker.names[number], number.to_bytes(2, "big"), near=False)
        await maker.begins(1)
        # What was wanted far away comes to the front when somebody near wants it, too.
        for number in (200, 99, 201):
            daemon.get(maker.names[number], number.to_bytes(2, "big"))
        # One after another they are looked at, and this is the last.
        daemon.get(reference_of(SMALL), b"all")
        assert (await daemon.receive()).token == b"all"
        maker.permits.release(5)
        answered = {int.from_bytes(token, "big") for token in await daemon.answers(5)}
        # Two of the others had been given to the threads before.
        assert answered == {0, 1, 200, 99, 201}
        maker.permits.release(300)
        assert len(await daemon.answers(98)) == 98

    play(script, maker=ManyLater, at_once=1)


def test_what_nobody_waits_for_any_more_is_not_begun() -> None:
    async def script(maker: Maker, arrived: asyncio.Queue[Daemon], _: asyncio.Task[None]) -> None:
        assert isinstance(maker, ManyLater)
        daemon = await arrived.get()
        await daemon.accept()
        daemon.get(maker.names[0], bytes([0]))
        await maker.begins(1)
        for number in range(1, 10):
            daemon.get(maker.names[number], bytes([number]), near=number < 5)
        found = await daemon.answers(10)
        assert {message.code for message in found.values()} == {Code.SERVICE_UNAVAILABLE}
        assert maker.begun == [0]
        maker.permits.release(20)
        # The next is not behind those.
        daemon.get(maker.names[20], b"next")
        while (await daemon.receive()).code != Code.CONTENT:
            daemon.get(maker.names[20], b"next")
        # There is one thread, and it was kept busy by the first.
        assert set(maker.begun) == {0, 20}

    play(script, longest_s=1.0, maker=ManyLater)


def test_which_there_are() -> None:
    async def script(maker: Maker, arrived: asyncio.Queue[Daemon], _: asyncio.Task[None]) -> None:
        daemon = await arrived.get()
        await daemon.accept()
        references = reference_of(SMALL) + bytes(32) + maker.slow
        daemon.send(Code.FETCH, b"1", [*BLOCKS, (16, b"\1"), (NEAR, b"")], references)
        daemon.send(Code.FETCH, b"2", [*BLOCKS, (16, b"\1")], references)
        found = await daemon.answers(2)
        assert found[b"1"].payload == b"\xa0"
        assert found[b"2"].payload == b"\x80"

    play(script)


def test_what_makes_no_sense_is_answered() -> None:
    async def script(maker: Maker, arrived: asyncio.Queue[Daemon], _: asyncio.Task[None]) -> None:
        daemon = await arrived.get()
        await daemon.accept()
        daemon.send(Code.GET, b"1", [*BLOCKS])
        daemon.send(Code.GET, b"2", [*BLOCKS, (15, b"?" * 52)])
        daemon.send(Code.FETCH, b"3", BLOCKS, b"short")
        daemon.send(Code.PUT, b"4", BLOCKS, SMALL)
        daemon.send(Code.GET, b"5", [(11, b"elsewhere")])
        daemon.get(maker.bad, b"6")
        daemon.send(Code.PING, b"7")
        found = await daemon.answers(7)
        assert [found[token].code for token in (b"1", b"2", b"3")] == [Code.BAD_REQUEST] * 3
        assert found[b"4"].code == Code.METHOD_NOT_ALLOWED
        assert found[b"5"].code == Code.NOT_FOUND
        assert found[b"6"].code == Code.NOT_FOUND
        assert found[b"7"].code == Code.PONG

    play(script)


def test_a_lost_daemon_is_connected_to_again(caplog: pytest.LogCaptureFixture) -> None:
    async def script(maker: Maker, arrived: asyncio.Queue[Daemon], _: asyncio.Task[None]) -> None:
        first = await arrived.get()
        await first.accept()
        first.writer.close()
        second = await arrived.get()
        await second.accept()
        second.send(Code.RELEASE, b"")
        third = await arrived.get()
        await third.accept()
        third.get(reference_of(SMALL), b"1")
        assert (await third.receive()).payload == SMALL
        third.send(Code.RELEASE, b"")
        await (await arrived.get()).accept()

    play(script)
    # Each time it is told, for the same reason too.
    assert caplog.text.count("Not connected to the daemon: the daemon is shutting down") == 2


def test_more_questions_than_fit_wait_and_are_answered() -> None:
    async def script(maker: Maker, arrived: asyncio.Queue[Daemon], _: asyncio.Task[None]) -> None:
        daemon = await arrived.get()
        await daemon.accept()
        reference = reference_of(LARGE)
        for number in range(2000):
            daemon.get(reference, number.to_bytes(2, "big"))
        found = await daemon.answers(2000)
        assert len(found) == 2000
        assert {message.payload for message in found.values()} == {LARGE}

    play(script)


@pytest.mark.parametrize(
    ("code", "words"), [(Code.FORBIDDEN, "seed-users"), (Code.NOT_FOUND, "older kaplad")]
)
def test_a_daemon_that_takes_no_seed_is_told_of(code: int, words: str) -> None:
    async def script(
        maker: Maker, arrived: asyncio.Queue[Daemon], task: asyncio.Task[None]
    ) -> None:
        daemon = await arrived.get()
        daemon.send(Code.CSM, b"")
        await daemon.receive()
        post = await daemon.receive()
        daemon.send(code, post.token, payload=b"seeds are run by those in seed-users")
        await asyncio.wait([task])
        with pytest.raises(SeedRefused, match=words):
            task.result()

    play(script)


def test_one_that_is_busy_is_asked_again() -> None:
    async def script(
        maker: Maker, arrived: asyncio.Queue[Daemon], task: asyncio.Task[None]
    ) -> None:
        daemon = await arrived.get()
        daemon.send(Code.CSM, b"")
        await daemon.receive()
        post = await daemon.receive()
        daemon.send(Code.SERVICE_UNAVAILABLE, post.token, payload=b"there are 16 seeds already")
        await (await arrived.get()).accept()
        assert not task.done()

    play(script)


def test_only_a_unix_socket_will_do() -> None:
    async def run() -> None:
        with ThreadPoolExecutor(1) as threads, pytest.raises(SeedRefused, match="Unix socket"):
            url = parse_store_url("coap+tcp://127.0.0.1")
            await stay_connected(url, Maker(), threads, threads, at_once=1)

    asyncio.run(run())
    assert issubclass(SeedRefused, Exception) and not issubclass(SeedRefused, StoreUnavailable)
