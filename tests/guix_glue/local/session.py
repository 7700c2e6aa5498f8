"""The captured dialogue with a real Guix daemon, and a daemon on a socket that speaks from it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from guix_glue.local.worker_requests import (
    PathInfo,
    Request,
    is_valid_path,
    query_path_from_hash_part,
    query_path_info,
)
from tests.guix_glue.samples import SAMPLES

APP = "/gnu/store/7xq3qwahlz7ci18sxrm0qhmzqmafag1f-app-1.2.3"
APP_INFO = PathInfo(
    deriver="/gnu/store/9ph6fa9lwp06gwqg8vdx6avbfi0f8671-app-1.2.3.drv",
    nar_hash=bytes.fromhex("3bdf28e6c2450b84d9386a0cbd15a4e6cf6a2d533551806fb0b37f5ce5bca070"),
    references=(
        APP,
        "/gnu/store/gacyfdvxvjhmzbmhpdlcyqa7cs4m4p81-depends-0.9",
        "/gnu/store/glqalygy586qaay75rzsmjcnj5xh46wp-demo-tree-1.0",
    ),
    nar_size=120336,
)
NO_HASH_PART = "0" * 32


class Turn(NamedTuple):
    """What a client sends, and what the daemon says to it."""

    sent: bytes
    received: bytes


def captured_turns() -> list[Turn]:
    """The whole session: two turns of handshake, then one for each request."""
    turns: list[Turn] = []
    for direction, data in captured_lines():
        if direction == ">" and (not turns or turns[-1].received):
            turns.append(Turn(b"", b""))
        last = turns[-1]
        turns[-1] = (
            Turn(last.sent + data, b"")
            if direction == ">"
            else Turn(last.sent, last.received + data)
        )
    return turns


def captured_lines() -> Iterator[tuple[str, bytes]]:
    text = (SAMPLES / "rpc" / "worker-protocol-session.hex").read_text()
    for line in text.splitlines():
        if not line.startswith("#"):
            yield line[0], bytes.fromhex(line[1:])


TURNS = captured_turns()
HANDSHAKE = TURNS[:2]
(
    APP_IS_VALID,
    APP_INFO_TURN,
    APP_FOUND,
    NOTHING_FOUND,
    INFO_OF_INVALID,
    BAD_HASH_PART,
    APP_IS_STILL_VALID,
    _ALL_PATHS,
    _SUBSTITUTE_URLS,
) = TURNS[2:]

# What was asked in the session, in that order, but for the last two requests, which we do not make.
REQUESTS: list[Request[object]] = [
    is_valid_path(APP),
    query_path_info(APP),
    query_path_from_hash_part(APP[11:43]),
    query_path_from_hash_part(NO_HASH_PART),
    query_path_info(f"/gnu/store/{NO_HASH_PART}-x"),
    query_path_from_hash_part("7xq3"),
    is_valid_path(APP),
]


def word(number: int) -> bytes:
    return number.to_bytes(8, "little")


def string(data: bytes) -> bytes:
    return word(len(data)) + data + bytes(-len(data) % 8)


DONE = word(0x616C7473)


def log_text(data: bytes) -> bytes:
    return word(0x6F6C6D67) + string(data)


@dataclass
class FakeDaemon:
    """Plays one list of turns for each connection; remembers what was not as it should be."""

    address: str
    connections: list[list[Turn]]
    problems: list[str] = field(default_factory=list)
    accepted: int = 0
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        turns = self.connections[self.accepted]
        self.accepted += 1
        try:
            for turn in turns:
                sent = await reader.readexactly(len(turn.sent))
                if sent != turn.sent:
                    self.problems.append(f"got {sent!r}, not {turn.sent!r}")
                    return
                if turn.received == GOES:
                    return
                writer.write(turn.received)
                if turn.received == HANGS:
                    await reader.read()
                    self.hung_up.set()
        except asyncio.IncompleteReadError as error:
            if error.partial:
                self.problems.append(f"the connection ended after {error.partial!r}")
        finally:
            writer.close()


HANGS = b""
"""The answer of a daemon that has got stuck."""
GOES = b"(goes)"
"""Not sent: the daemon ends instead of answering."""


@asynccontextmanager
async def fake_daemon(
    directory: Path, *connections: Sequence[Turn], tcp: bool = False
) -> AsyncIterator[FakeDaemon]:
    """A daemon for so many connections, each with the handshake and then the turns given."""
    daemon = FakeDaemon("", [[*HANDSHAKE, *turns] for turns in connections])
    if tcp:
        server = await asyncio.start_server(daemon.serve, "127.0.0.1", 0)
        daemon.address = f"guix://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    else:
        daemon.address = str(directory / "socket")
        server = await asyncio.start_unix_server(daemon.serve, daemon.address)
    try:
        yield daemon
    finally:
        server.close()
        await server.wait_closed()
    assert daemon.problems == []
