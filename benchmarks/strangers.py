"""What a crowd of strangers leaves to well-behaved clients.

A daemon has a thousand connections. Two of them fetch blocks of 1 KiB, 64 at a time, one over the
Unix socket and one over TCP; first beside the others that only stay, then with 200 of these on TCP
sending requests of one kind without end, 16 under way on each. Those run at the lowest priority:
what is measured is what the daemon gives them, not what they take of the machine. Both spans belong
to one round; the figures are each client's second rate over its first.
"""

from __future__ import annotations

import contextlib
import re
import selectors
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.busy import CROWD, EMPTY, PRESENT, WINDOW, Address, Client, fill, get, neighbours
from benchmarks.report import Row, compare, format_row, heading, single
from benchmarks.wire import kaplad
from eris import BlockSize

__all__ = ["run"]

_CONNECTIONS: Final = 1000
_SECONDS: Final = 2.0
_LOWEST_PRIORITY: Final = 19
_BARS: Final = {"Unix": 0.7, "TCP": 0.3}
_MEMORY_BAR_MIB: Final = 250
_ATTACKS: Final = (
    EMPTY,
    "nothing",
    ".well-known/core",
    "60 options",
    "GET of unknown blocks",
    "FETCH of 1024 blocks",
    "stat",
)


@contextmanager
def _quiet(address: Address, count: int) -> Iterator[None]:
    """So many connections that say nothing but their greeting."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    greeting = bytes.fromhex("50e12310000020")
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            one = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            one.connect(address)
            one.sendall(greeting)
        yield


def _rates(clients: dict[str, Client]) -> dict[str, float]:
    """Answers a second of each of them, all at once."""
    answered = dict.fromkeys(clients, 0)
    with selectors.DefaultSelector() as selector:
        for name, client in clients.items():
            client.ask()
            selector.register(client, selectors.EVENT_READ, name)
        begin = time.perf_counter()
        while (now := time.perf_counter()) - begin < _SECONDS:
            for key, _ in selector.select(0.2):
                client = clients[key.data]
                answered[key.data] += client.take()
                client.ask()
    return {name: count / (now - begin) for name, count in answered.items()}


def _settle(clients: dict[str, Client]) -> None:
    """Wait until each is answered again: a crowd that has just gone may still be worked on."""
    for client in clients.values():
        client.ask()
        while not client.take():
            pass


def _memory_mib(process: int) -> float:
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


def run(rounds: int, wanted: tuple[str, ...] = ()) -> list[Row]:
    """Measure every attack over this many rounds."""
    rows: list[Row] = []
    memory: list[float] = []
    with (
        tempfile.TemporaryDirectory(prefix="ks-") as directory,
        kaplad(Path(directory), KAPLA_MAX_CONNECTIONS=str(_CONNECTIONS)) as (_, port, process),
    ):
        addresses: dict[str, Address] = {
            "Unix": str(Path(directory) / "s"),
            "TCP": ("127.0.0.1", port),
        }
        fill(addresses["Unix"])
        asked = get(BlockSize.SMALL, 0, PRESENT)
        clients = {name: Client(place, asked, WINDOW) for name, place in addresses.items()}
        others = _CONNECTIONS - CROWD - len(clients)
        with _quiet(addresses["Unix"], others // 2), _quiet(addresses["TCP"], others // 2):
            for kind in wanted or _ATTACKS:
                rows += _attack(kind, clients, addresses["TCP"], rounds, process, memory)
    rows.append(single("daemon meanwhile", [max(memory)], "MiB", _MEMORY_BAR_MIB, at_most=True))
    return rows


def _attack(
    kind: str,
    clients: dict[str, Client],
    address: Address,
    rounds: int,
    process: int,
    memory: list[float],
) -> list[Row]:
    alone: dict[str, list[float]] = {name: [] for name in clients}
    beside: dict[str, list[float]] = {name: [] for name in clients}
    for _ in range(rounds):
        _settle(clients)
        for name, rate in _rates(clients).items():
            alone[name].append(rate)
        with neighbours(address, kind, CROWD, _LOWEST_PRIORITY):
            for name, rate in _rates(clients).items():
                beside[name].append(rate)
            memory.append(_memory_mib(process))
    return [
        compare(
            f"GETs beside {CROWD} strangers, {kind}, {name}",
            beside[name],
            alone[name],
            "blocks/s",
            _BARS[name],
        )
        for name in clients
    ]


def main() -> None:
    """Print the table."""
    print(heading())
    for row in run(int(sys.argv[1]) if len(sys.argv) > 1 else 3, tuple(sys.argv[2:])):
        print(format_row(row))


if __name__ == "__main__":
    main()
