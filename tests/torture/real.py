"""Real daemons, real clients, real signals: rounds on one store, one after another.

In each, a daemon is started into some weather, clients work with it, all of them end somehow. Then
a daemon in fair weather must have everything that was answered, and the file must be sound. When
exactly a signal arrives is not the seed's: it does the same only nearly.
"""

from __future__ import annotations

import asyncio
import json
import select
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

from eris.errors import BlockNotFound, StoreError
from eris.model import BlockSize, Reference
from kapla.remote_store import RemoteStore
from kapla.urls import parse_store_url
from tests.torture.check import check_file
from tests.torture.clients import start_client
from tests.torture.damage import damage, put_again
from tests.torture.history import Fault
from tests.torture.pin_clients import PinBook
from tests.torture.processes import GUARD_S, Child, Daemon, start_daemon
from tests.torture.shim import Shim, build
from tests.torture.smalldisk import fill, small_disk
from tests.torture.things import block_of, encoded
from tests.torture.weather import Weather, draw

__all__ = ["Chain", "check_blocks", "read_for"]

_ROUNDS: Final = 12
_CHECKED: Final = 500
"""Of older blocks, each round; all of them in the end."""
_NUMBERS: Final = 10**6
"""For each client."""
_DISK_MIB: Final = 24


class Chain:
    """All rounds of one seed."""

    def __init__(self, seed: int, shim: Shim, place: Path, most: int = _ROUNDS) -> None:
        self.seed = seed
        self.rounds = 0
        self.counted: Counter[str] = Counter()
        self._most = min(most, _ROUNDS)
        self._random = Random(seed)
        self._shim, self._library = shim, build()
        self._place = place / f"chain-{seed}"
        self._kept: dict[Reference, bytes] = {}
        self._new: dict[Reference, bytes] = {}
        self._pins = PinBook()
        self._numbers = 1
        self._settings = {"KAPLA_SYNCHRONOUS": self._random.choice(("normal", "full"))}
        self._is_evicting = self._random.random() < 0.4
        if self._is_evicting:
            self._settings["KAPLA_MAX_SIZE"] = f"{self._random.randrange(2, 12)} MiB"
        self._children: list[Child] = []

    def go(self) -> None:
        """Raises: Fault."""
        self._place.mkdir()
        self._socket = self._place / "eris.sock"
        with ExitStack() as stack:
            stack.callback(self._end_all)
            disk = self._place
            if self._random.random() < 0.25:
                disk = self._place / "disk"
                if not stack.enter_context(small_disk(disk, _DISK_MIB)):
                    disk = self._place
            self._disk, self._is_small = disk, disk is not self._place
            self._store = disk / "blocks.sqlite"
            for number in range(self._most):
                try:
                    self._do_round(is_last=number == self._most - 1)
                except Fault as fault:
                    raise Fault(f"round {number}: {fault}") from fault
                self.rounds += 1
            if self._most == _ROUNDS:
                self._damage()

    def _damage(self) -> None:
        """The last round: of what was there not all need be found, and nothing was promised."""
        damage(self._store, self._random)
        self.counted["file damaged"] += 1
        daemon = start_daemon(self._shim, self._store, self._socket, self._settings)
        self._children = [daemon]
        if daemon.wait_until_ready():
            blocks = dict(list(self._kept.items())[-_CHECKED:])
            try:
                asyncio.run(put_again(self._socket, blocks))
            except (Fault, TimeoutError) as fault:
                raise Fault(f"after damage: {fault}; {daemon.text.decode()}") from fault
            daemon.signal(signal.SIGTERM)
        elif daemon.wait() != 1 or b"kaplad: cannot use the store" not in daemon.text:
            raise Fault(f"a damaged store is refused without a word: {daemon.text.decode()}")
        daemon.wait()
        self._children = []
        self._look_at(daemon)
        self.rounds += 1

    def _end_all(self) -> None:
        for child in self._children:
            child.kill()

    def _do_round(self, *, is_last: bool) -> None:
        weather = draw(self._random, is_small_disk=self._is_small)
        self.counted.update(weather.names)
        self._under_way(weather)
        self._kept |= self._new
        self._check(is_last=is_last)
        self._new = {}

    def _under_way(self, weather: Weather) -> None:
        """Daemon and clients, until all of them have ended."""
        library = self._library if weather.is_started_anew else None
        daemon = start_daemon(
            self._shim, self._store, self._socket, self._settings, weather.plan, library
        )
        self._children = [daemon]
        clients: list[Child] = []
        if weather.how_it_ends != "killed at its start" and daemon.wait_until_ready():
            clients = [self._start_client() for _ in range(weather.clients)]
            self._children += clients
        self._let_happen(weather, daemon, clients)
        for client in clients:
            client.kill()
        daemon.wait()
        self._children = []
        for client in clients:
            self._take(client.text)
        self._look_at(daemon)

    def _start_client(self) -> Child:
        first, self._numbers = self._numbers, self._numbers + _NUMBERS
        return start_client(
            [self._socket], f"{self.seed} {first}", first, is_evicting=self._is_evicting
        )

    def _let_happen(self, weather: Weather, daemon: Daemon, clients: list[Child]) -> None:
        ends = signal.SIGTERM if weather.how_it_ends == "stopped" else signal.SIGKILL
        events: list[tuple[float, Callable[[], None]]] = [
            (weather.ends_at, lambda: daemon.signal(ends))
        ]
        for client, at in zip(clients, weather.clients_killed_at, strict=False):
            events.append((at, partial(client.signal, signal.SIGKILL)))
        if weather.fills_at is not None:
            events.append((weather.fills_at, lambda: fill(self._disk / "filler")))
        if weather.second_daemon and clients:
            events.append((weather.ends_at / 2, lambda: self._check_second(daemon)))
        started = time.monotonic()
        for at, happen in sorted(events, key=lambda event: event[0]):
            read_for([daemon, *clients], at - (time.monotonic() - started))
            happen()

    def _check_second(self, daemon: Daemon) -> None:
        """While a daemon has a store, no second one gets it."""
        second = start_daemon(self._shim, self._store, self._place / "second.sock", self._settings)
        self._children.append(second)
        is_let_in = second.wait_until_ready()
        if is_let_in and _is_running(daemon):
            raise Fault("a second daemon was let in")
        if not is_let_in and b"another daemon" not in second.text and _is_running(daemon):
            raise Fault(f"a second daemon does not say why it ends: {second.text.decode()}")
        second.kill()

    def _take(self, text: bytes) -> None:
        """What a client told. Its last line may be cut."""
        for line in text.split(b"\n")[:-1]:
            if not line.startswith(b"{"):
                raise Fault(f"a client failed: {text.decode(errors='replace')[-2000:]}")
            facts: dict[str, Any] = json.loads(line)
            if "fault" in facts:
                raise Fault(facts["fault"])
            self._pins.take(facts)
            if self._is_evicting:
                continue
            self._new |= dict(map(block_of, facts.get("put", ())))
            if "content" in facts:
                self._new |= encoded(facts["content"])[1]

    def _look_at(self, daemon: Daemon) -> None:
        if b"Traceback" in daemon.text:
            raise Fault(f"the daemon failed: {daemon.text.decode(errors='replace')[-3000:]}")

    def _check(self, *, is_last: bool) -> None:
        (self._disk / "filler").unlink(missing_ok=True)
        wanted = self._pins.blocks() if self._is_evicting else self._kept
        if not is_last and len(wanted) > _CHECKED:
            names = self._random.sample(list(wanted), _CHECKED)
            wanted = {name: wanted[name] for name in names} | self._new
        daemon = start_daemon(self._shim, self._store, self._socket, self._settings)
        self._children = [daemon]
        if not daemon.wait_until_ready():
            raise Fault(f"the daemon does not start: {daemon.text.decode(errors='replace')}")
        asyncio.run(self._pins.check(self._socket))
        stat = asyncio.run(check_blocks(self._socket, wanted))
        daemon.signal(signal.SIGTERM)
        if code := daemon.wait():
            raise Fault(f"the daemon ended with {code}: {daemon.text.decode(errors='replace')}")
        self._children = []
        self._look_at(daemon)
        if b"WARNING" in daemon.text or b"ERROR" in daemon.text:
            raise Fault(f"the daemon is worried: {daemon.text.decode(errors='replace')}")
        self._check_file(stat)

    def _check_file(self, stat: dict[str, Any]) -> None:
        with closing(sqlite3.connect(self._store)) as connection:
            check_file(connection, None)
            count = connection.execute("SELECT block_size, blocks FROM totals").fetchall()
        if {str(size): blocks for size, blocks in count} != stat["blocks"]:
            raise Fault(f"stat tells of {stat['blocks']}, the file has {count}")


def _is_running(child: Child) -> bool:
    # It may have said something before it ended.
    while select.select([child.output], [], [], 0)[0]:
        if not child.read():
            return False
    return True


def read_for(children: list[Child], seconds: float) -> None:
    """Take what children write, for so long."""
    end = time.monotonic() + seconds
    reading = {child.output: child for child in children if child.code is None}
    while (left := end - time.monotonic()) > 0:
        ready, _, _ = select.select(list(reading), [], [], left)
        for descriptor in ready:
            if not reading[descriptor].read():
                del reading[descriptor]


async def check_blocks(
    socket: Path, wanted: dict[Reference, bytes], *, are_found: bool = True
) -> dict[str, Any]:
    """Everything that was answered is there; returns what the daemon holds.

    `are_found`: FETCH tells so too.
    """
    url = parse_store_url(f"coap+unix://{socket}")
    async with asyncio.timeout(GUARD_S), RemoteStore(url) as store:
        names = list(wanted)
        for start in range(0, len(names), 500):
            part = names[start : start + 500]
            found = await asyncio.gather(
                *[store.get(name, BlockSize(len(wanted[name]))) for name in part],
                return_exceptions=True,
            )
            for name, result in zip(part, found, strict=True):
                if isinstance(result, BlockNotFound):
                    raise Fault("a block that was answered is not there")
                if isinstance(result, StoreError | BaseException):
                    raise Fault(f"a block cannot be had: {result}")
                if result != wanted[name]:
                    raise Fault("a block is another one than was put")
        if are_found and not all(await store.find(names)):
            raise Fault("a block that was answered is not found")
        return await store.stat()
