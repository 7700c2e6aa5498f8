"""What is forgotten is released: the command line with a store that has pins."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from eris import ReadCapability
from eris.base32 import format_base32
from kapla.catalogue.catalogue import Catalogue
from kapla.coap.frame import Message
from tests.integration.commands import Kapla
from tests.kapla.fake_server import Peer, fake_server
from tests.kapla.pin_server import PinServer

Command = Callable[..., Awaitable[str]]


class SlowServer(PinServer):
    """Before it releases a pin, something else may happen, as much of it as can."""

    meanwhile: Callable[[], Awaitable[object]] | None = None
    work: asyncio.Task[object] | None = None

    def __call__(self, peer: Peer, request: Message) -> None:
        if self.meanwhile is None or b"release" not in request.values(11):
            super().__call__(peer, request)
            return
        self.work = asyncio.ensure_future(self.meanwhile())

        async def answer() -> None:
            assert self.work is not None
            await asyncio.wait([self.work], timeout=2)
            super(SlowServer, self).__call__(peer, request)

        self.answering = asyncio.ensure_future(answer())


def in_a_store_with_pins(home: Path, use: Callable[[SlowServer, Command], Awaitable[None]]) -> None:
    """Have `use` run commands of somebody with this home against such a store."""

    async def main() -> None:
        pins = SlowServer()
        async with fake_server(pins) as server:
            kapla = Kapla(home, f"coap+tcp://127.0.0.1:{server.port}")

            async def command(*arguments: str | Path, code: int = 0) -> str:
                process = await asyncio.create_subprocess_exec(
                    *kapla.command(*arguments),
                    env=kapla.environment(),
                    cwd=home,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                )
                told, _ = await process.communicate()
                assert process.returncode == code
                return told.decode().rstrip("\n")

            await use(pins, command)

    asyncio.run(asyncio.wait_for(main(), 110))


def pin_of(urn: str) -> str:
    return format_base32(ReadCapability.from_urn(urn).root.reference)


def test_old_versions_and_forgotten_names_are_released(tmp_path: Path) -> None:
    async def use(pins: SlowServer, kapla: Command) -> None:
        found = []
        for content in "123":
            (tmp_path / "f").write_text(content)
            encode = ("encode", "--name", "x", "--keep-versions", "2", "f")
            found.append(pin_of(await kapla(*encode)))
        assert pins.pins.keys() == set(found[1:])
        await kapla("forget", "x")
        assert not pins.pins

    in_a_store_with_pins(tmp_path, use)


def test_what_another_entry_stands_for_is_not_released(tmp_path: Path) -> None:
    async def use(pins: SlowServer, kapla: Command) -> None:
        (tmp_path / "f").write_text("content")
        urn = await kapla("encode", "f")
        await kapla("encode", "--name", "x", "f")
        await kapla("forget", "x")
        assert pins.pins.keys() == {pin_of(urn)}
        # One that a person made by `kapla pin --name` is none of ours.
        pins.pins["theirs"] = pins.pins[pin_of(urn)]
        await kapla("forget", urn)
        assert pins.pins.keys() == {"theirs"}

    in_a_store_with_pins(tmp_path, use)


def test_a_pin_that_is_gone_is_no_reason_to_stay(tmp_path: Path) -> None:
    async def use(pins: SlowServer, kapla: Command) -> None:
        (tmp_path / "f").write_text("content")
        await kapla("encode", "--name", "x", "f")
        pins.pins.clear()
        assert await kapla("forget", "x") == "forgotten: x"
        path = tmp_path / ".local" / "share" / "kapla-client" / "catalogue.sqlite"
        with Catalogue.open(path) as catalogue:
            assert not list(catalogue.newest_first())
        assert sorted(os.listdir(path.parent)) == [path.name, path.name + ".lock"]

    in_a_store_with_pins(tmp_path, use)


def test_what_is_stored_while_the_same_is_forgotten_stays_pinned(tmp_path: Path) -> None:
    async def use(pins: SlowServer, kapla: Command) -> None:
        (tmp_path / "f").write_text("content")
        urn = await kapla("encode", "--name", "x", "f")
        pins.meanwhile = lambda: kapla("encode", "--name", "y", "f")
        await kapla("forget", "x")
        assert pins.work is not None
        await pins.work
        assert pins.pins.keys() == {pin_of(urn)}

    in_a_store_with_pins(tmp_path, use)
