"""Front ends of one PostgreSQL database, killed in turn with the server while clients work.

Each client does one thing after another with any of the front ends. In each round some of these, or
the server with all its processes, are killed, or stopped, and started again; what happens when is
counted in what was answered. After that all goes on, which is waited for. Then everything that was
answered must be there, by any front end; the pins must be those that were closed; and the totals
must be a count of the rows.
"""

from __future__ import annotations

import asyncio
import json
import select
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any, Final

import psycopg

from eris.model import BlockSize, Reference
from kapla.remote_store import RemoteStore
from kapla.urls import parse_store_url
from tests.postgres import Server
from tests.torture.clients import start_client
from tests.torture.fleet import FRONTS, Fleet
from tests.torture.history import Fault
from tests.torture.pin_clients import PinBook
from tests.torture.processes import GUARD_S, Child
from tests.torture.real import check_blocks
from tests.torture.things import block_of, encoded

__all__ = ["Chain"]

_ROUNDS: Final = 12
_CHECKED: Final = 500
"""Of older blocks, each round; all of them in the end."""
_NUMBERS: Final = 10**6
"""For each client."""
_CLIENTS: Final = 3
_MOST_ANSWERS: Final = 6
"""What clients tell before the next thing happens, at most."""


class Chain:
    """All rounds of one seed, on one database."""

    def __init__(
        self,
        seed: int,
        server: Server,
        place: Path,
        most: int = _ROUNDS,
        plant: str | None = None,
    ) -> None:
        self.seed = seed
        self.rounds = 0
        self.counted: Counter[str] = Counter()
        self._most = min(most, _ROUNDS)
        self._random = Random(seed)
        self._kept: dict[Reference, bytes] = {}
        self._new: dict[Reference, bytes] = {}
        self._pins = PinBook()
        self._numbers = 1
        settings = {}
        self._is_evicting = self._random.random() < 0.4
        if self._is_evicting:
            settings["KAPLA_MAX_SIZE"] = f"{self._random.randrange(2, 6)} MiB"
        self._clients: list[Child] = []
        self._place = place / f"fronts-{seed}"
        self._place.mkdir()
        self._fleet = Fleet(server, self._place, settings, plant)

    def go(self) -> None:
        """Raises: Fault."""
        with closing(self._fleet):
            try:
                self._fleet.start()
                for number in range(self._most):
                    self._do_round(number, is_last=number == self._most - 1)
                    self.rounds += 1
            finally:
                for client in self._clients:
                    client.kill()

    def _do_round(self, number: int, *, is_last: bool) -> None:
        try:
            self._under_way()
            self._fleet.settle()
            self._kept |= self._new
            self._check(is_last=is_last)
        except Fault as fault:
            raise Fault(f"round {number}: {fault}") from fault
        self._new = {}

    # --- what happens

    def _under_way(self) -> None:
        """Clients work, and things happen, until all have gone on after the last of these."""
        self._clients = [self._start_client() for _ in range(_CLIENTS)]
        for _ in range(self._random.randrange(1, 4)):
            self._wait_for(self._random.randrange(1, _MOST_ANSWERS))
            self._let_happen()
        self._fleet.start()
        self._wait_for_all()
        for client in self._clients:
            client.kill()
            self._take(client.text)
        self._clients = []

    def _start_client(self) -> Child:
        first, self._numbers = self._numbers, self._numbers + _NUMBERS
        seed = f"{self.seed} {first}"
        return start_client(self._fleet.sockets, seed, first, is_evicting=self._is_evicting)

    def _let_happen(self) -> None:
        what = self._random.choices(
            ("front end killed", "front end stopped", "server killed", "all killed"), (4, 2, 3, 1)
        )[0]
        self.counted[what] += 1
        if what == "front end killed":
            self._end_one(signal.SIGKILL)
        elif what == "front end stopped":
            self._end_one(signal.SIGTERM)
        elif what == "server killed":
            self._fleet.kill_server()
        else:
            for number in range(FRONTS):
                self._fleet.end(number, signal.SIGKILL)
            self._fleet.kill_server()
            self._fleet.start()

    def _end_one(self, signal_number: int) -> None:
        self._fleet.end(self._random.randrange(FRONTS), signal_number)
        if self._random.random() < 0.5:
            self._fleet.start()
        elif not self._fleet.running:
            # Somebody must be there, or nothing is answered.
            self._fleet.start()

    def _wait_for(self, answers: int) -> None:
        """Until the clients have told of so many things more that were done. Raises: Fault."""
        wanted = sum(self._told()) + answers
        self._wait_until(lambda: sum(self._told()) >= wanted)

    def _wait_for_all(self) -> None:
        """Until each client has told of something more. Raises: Fault."""
        before = self._told()
        self._wait_until(lambda: all(map(_went_on, before, self._told())))

    def _wait_until(self, is_reached: Callable[[], bool]) -> None:
        end = time.monotonic() + GUARD_S
        while not is_reached():
            reading = {child.output: child for child in [*self._clients, *self._fleet.running]}
            ready, _, _ = select.select(list(reading), [], [], max(0.0, end - time.monotonic()))
            if not ready and time.monotonic() >= end:
                raise Fault(f"nothing goes on: {self._said()}")
            for descriptor in ready:
                if not reading[descriptor].read():
                    raise Fault(f"somebody has ended: {self._said()}")

    def _told(self) -> list[int]:
        return [client.text.count(b"\n") for client in self._clients]

    def _said(self) -> str:
        said = [child.text[-1000:] for child in [*self._clients, *self._fleet.running]]
        return b"\n".join(said).decode(errors="replace")

    def _take(self, text: bytes) -> None:
        """What a client told. Its last line may be cut."""
        for line in text.split(b"\n")[:-1]:
            if not line.startswith(b"{"):
                raise Fault(f"a client failed: {text.decode(errors='replace')[-2000:]}")
            facts: dict[str, Any] = json.loads(line)
            if "fault" in facts:
                raise Fault(facts["fault"])
            self._pins.take(facts)
            self.counted["blocks answered"] += len(facts.get("put", ()))
            self.counted["pins closed"] += "closed" in facts
            if self._is_evicting:
                continue
            self._new |= dict(map(block_of, facts.get("put", ())))
            if "content" in facts:
                self._new |= encoded(facts["content"])[1]

    # --- what must hold then

    def _check(self, *, is_last: bool) -> None:
        wanted = self._pins.blocks() if self._is_evicting else self._kept
        if not is_last and len(wanted) > _CHECKED:
            names = self._random.sample(list(wanted), _CHECKED)
            wanted = {name: wanted[name] for name in names} | self._new
        socket = self._random.choice(self._fleet.sockets)
        asyncio.run(self._pins.check(socket))
        # What only a generation has that leaves is there, and is not found: it is to be put anew.
        asyncio.run(check_blocks(socket, wanted, are_found=not self._is_evicting))
        self._check_totals()

    def _check_totals(self) -> None:
        """The totals are the rows; and all front ends tell the same, unless room is being made."""
        counted, stats = self._count(), []
        while not self._is_evicting:
            stats = [asyncio.run(_stat(socket)) for socket in self._fleet.sockets]
            before, counted = counted, self._count()
            # What clients asked for that are gone may have been done meanwhile.
            if counted == before:
                break
        blocks = {str(int(size)): counted[size] for size in BlockSize}
        if any(stat["blocks"] != blocks for stat in stats):
            raise Fault(f"there are {blocks}, and of {[stat['blocks'] for stat in stats]} is told")

    def _count(self) -> Counter[int]:
        """Raises: Fault, if the totals are others."""
        while True:
            try:
                return _count_rows(self._fleet.url)
            except psycopg.errors.UndefinedTable:
                # It was dropped while we looked.
                continue


def _went_on(before: int, now: int) -> bool:
    # The first may have been written before whatever happened.
    return now >= before + 2


_TOLD: Final = """
SELECT generation, sum(small)::bigint, sum(large)::bigint FROM (
    SELECT generation, small, large FROM totals
    UNION ALL SELECT generation, small, large FROM added
) AS counted GROUP BY generation
"""


def _count_rows(url: str) -> Counter[int]:
    found: Counter[int] = Counter()
    with psycopg.connect(url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        told = {number: sizes for number, *sizes in connection.execute(_TOLD).fetchall()}
        numbers = connection.execute("SELECT number FROM generations").fetchall()
        for (number,) in numbers:
            rows: dict[int, int] = dict(
                connection.execute(
                    f"SELECT octet_length(block), count(*) FROM blocks_{number} GROUP BY 1".encode()
                ).fetchall()
            )
            sizes = [rows.get(int(size), 0) for size in BlockSize]
            if sizes != told.get(number, [0, 0]):
                raise Fault(f"generation {number} has {sizes}, and the totals {told.get(number)}")
            found.update(rows)
    return found


async def _stat(socket: Path) -> dict[str, Any]:
    async with RemoteStore(parse_store_url(f"coap+unix://{socket}")) as store:
        return await store.stat()
