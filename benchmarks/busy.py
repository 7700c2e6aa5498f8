"""Clients that keep many requests of one kind under way, and others that do so beside them."""

from __future__ import annotations

import multiprocessing
import os
import random
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Final

from eris import BlockSize, reference_of
from kapla.coap.blocks import block_query, get_options, put_options
from kapla.coap.frame import Code, FrameReader, Option, encode_options, format_frame

__all__ = [
    "CROWD",
    "PRESENT",
    "WINDOW",
    "Address",
    "Client",
    "fill",
    "get",
    "kinds",
    "neighbours",
    "rate",
]

SECONDS: Final = 1.0
WINDOW: Final = 64
_UNDER_WAY: Final = 200
CROWD: Final = 200
UNDER_WAY_IN_A_CROWD: Final = 16
PRESENT: Final = 1024
EMPTY: Final = "500 empty messages"
# A neighbour may be kept waiting, and looks now and then whether it is to end.
_PATIENCE_S: Final = 0.2
_FIRST_SIGNAL: Final = 0xE0
_CSM: Final = bytes.fromhex("50e12310000020")
_BLOCKS: Final[list[Option]] = [(11, b".well-known"), (11, b"eris"), (11, b"blocks")]

Address = str | tuple[str, int]
_Make = Callable[[int], tuple[int, bytes]]
"""The code and body of a request, by its number."""


def _block(size: int, number: int) -> bytes:
    return random.Random(number).randbytes(int(size))


def get(size: BlockSize, first: int, count: int) -> _Make:
    """GETs of the blocks from the first one on, again and again."""
    names = [reference_of(_block(size, first + number)) for number in range(count)]
    bodies = [get_options((), block_query(name), size) for name in names]
    return lambda number: (Code.GET, bodies[number % count])


def _put(size: BlockSize) -> _Make:
    rest = random.Random(0).randbytes(size - 8)
    start = time.time_ns()
    head = put_options(()) + b"\xff"
    return lambda number: (Code.PUT, head + (start + number).to_bytes(8, "big") + rest)


def _fixed(code: int, options: list[Option], payload: bytes = b"") -> _Make:
    body = encode_options(options) + (b"\xff" + payload if payload else b"")
    return lambda number: (code, body)


def kinds() -> dict[str, _Make]:
    """All kinds of requests."""
    name = reference_of(_block(BlockSize.SMALL, 0))
    large = reference_of(_block(BlockSize.LARGE, 0))
    unknown = [reference_of(number.to_bytes(8, "big")) for number in range(1024)]
    return {
        "GET 1 KiB": get(BlockSize.SMALL, 0, PRESENT),
        "GET 32 KiB": get(BlockSize.LARGE, 0, 64),
        "GET of unknown blocks": get(BlockSize.SMALL, 1 << 40, 1024),
        "PUT 1 KiB": _put(BlockSize.SMALL),
        "PUT 32 KiB": _put(BlockSize.LARGE),
        "PUT of what is there": _fixed(Code.PUT, _BLOCKS, _block(BlockSize.SMALL, 0)),
        "PUT of no block": _fixed(Code.PUT, _BLOCKS, b"x"),
        "GET in the slow lane": _fixed(Code.GET, [*_BLOCKS, (15, name), (23, b"\x06")]),
        "piece of 16 bytes": _fixed(Code.GET, [*_BLOCKS, (15, large), (23, b"\x08")]),
        "piece of a PUT": _fixed(Code.PUT, [*_BLOCKS, (27, b"\x0e")], bytes(1024)),
        "FETCH of 1 block": _fixed(5, _BLOCKS, bytes(32)),
        "FETCH of 1024 blocks": _fixed(5, _BLOCKS, b"".join(unknown)),
        "nothing": _fixed(Code.GET, []),
        "unknown path": _fixed(Code.GET, [(11, b"nothing")]),
        "unknown method": _fixed(9, []),
        "malformed": lambda number: (Code.GET, b"\xf0"),
        "60 options": _fixed(Code.GET, [(15, b"x")] * 60),
        EMPTY: _fixed(Code.GET, []),
        ".well-known/core": _fixed(Code.GET, [(11, b".well-known"), (11, b"core")]),
        "stat": _fixed(Code.GET, [(11, b"kapla"), (11, b"stat")]),
    }


class Client:
    """Keeps a number of requests under way."""

    def __init__(self, address: Address, make: _Make, window: int, before: bytes = b"") -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.connect(address)
        self._socket.settimeout(_PATIENCE_S)
        self._socket.sendall(_CSM)
        self._reader = FrameReader(1 << 20)
        self._make = make
        # What is sent before each request, and not answered.
        self._before = before
        self._number = 0
        self._room = window

    def go_on(self) -> int:
        """Ask as much as there is room for, take what comes; returns how many were answered."""
        self.ask()
        return self.take()

    def ask(self) -> None:
        """Ask as much as there is room for."""
        numbers = range(self._number, self._number + self._room)
        self._number += self._room
        frames = [self._before + format_frame(*self._frame(number)) for number in numbers]
        self._send(b"".join(frames))
        self._room = 0

    def fileno(self) -> int:
        """For selectors: what to wait for."""
        return self._socket.fileno()

    def take(self) -> int:
        """Take what comes; returns how many were answered, each of which makes room for another."""
        try:
            data = self._socket.recv(1 << 18)
        except TimeoutError:
            return 0
        if not data:
            raise EOFError("the daemon has ended a connection")
        self._room += sum(frame[0] < _FIRST_SIGNAL for frame in self._reader.feed(data))
        return self._room

    def _frame(self, number: int) -> tuple[int, bytes, bytes]:
        code, body = self._make(number)
        return code, (number & 0xFFFFFF).to_bytes(3, "big"), body

    def _send(self, data: bytes) -> None:
        self._socket.settimeout(None)
        self._socket.sendall(data)
        self._socket.settimeout(_PATIENCE_S)


def _be_busy(pipe: Connection, address: Address, kind: str, crowd: int, niceness: int) -> None:
    """In a process of its own: keep asking until told to end."""
    before = bytes(1000) if kind == EMPTY else b""
    window = _UNDER_WAY if crowd == 1 else UNDER_WAY_IN_A_CROWD
    clients = [Client(address, kinds()[kind], window, before) for _ in range(crowd)]
    # Only now: getting there is no part of it.
    os.nice(niceness)
    with selectors.DefaultSelector() as selector:
        for client in clients:
            client.ask()
            selector.register(client, selectors.EVENT_READ, client)
        pipe.send(None)
        while not pipe.poll():
            for key, _ in selector.select(_PATIENCE_S):
                key.data.take()
                key.data.ask()


@contextmanager
def neighbours(address: Address, kind: str, crowd: int, niceness: int = 0) -> Iterator[None]:
    """Somebody asks without end meanwhile, over so many connections."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_be_busy, args=(there, address, kind, crowd, niceness), daemon=True
    )
    process.start()
    there.close()  # or its end would not be seen
    try:
        here.recv()
        yield
        here.send(None)
    finally:
        process.kill()
        process.join()


def rate(client: Client) -> float:
    """Answers a second."""
    begin = time.perf_counter()
    answered = 0
    while (now := time.perf_counter()) - begin < SECONDS:
        answered += client.go_on()
    return answered / (now - begin)


def fill(address: Address) -> None:
    """Put the blocks that are asked for."""
    for size, count in ((BlockSize.SMALL, PRESENT), (BlockSize.LARGE, 64)):
        head = put_options(()) + b"\xff"
        bodies = [head + _block(size, number) for number in range(count)]

        def put(number: int, bodies: list[bytes] = bodies) -> tuple[int, bytes]:
            return Code.PUT, bodies[number % len(bodies)]

        client = Client(address, put, WINDOW)
        answered = 0
        while answered < count:
            answered += client.go_on()
