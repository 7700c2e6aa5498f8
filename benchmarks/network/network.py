"""A network of namespaces for as long as a context lasts.

```python
line = Line(rtt_ms=25, up_mbit_s=10, down_mbit_s=10)
with network(Plan((Spot("near", line), Spot("far", line)))) as net:
    subprocess.run(net.host("near").command("curl", f"http://{net.host('far').address}:8000/"))
```
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.network.keepers import running_keeper
from benchmarks.network.namespaces import require, sweep, within
from benchmarks.network.plan import Plan

__all__ = ["Host", "Network", "Traffic", "network", "prefix"]

_KEEPER: Final = "benchmarks.network.keeper"
_numbers = itertools.count()


class Traffic(NamedTuple):
    """Bytes that passed a line, IP headers included."""

    received: int
    sent: int


@dataclass(frozen=True, slots=True)
class Host:
    """A namespace, and the address that the others know."""

    name: str
    namespace: str
    address: str

    def command(self, *arguments: str | Path) -> list[str]:
        """The command that runs a command on this host, in the same process."""
        return within(self.namespace, *arguments)


class Network:
    """Hosts, and what can be done to what is between them."""

    def __init__(self, name: str, plan: Plan, keeper: subprocess.Popen[str]) -> None:
        self._name = name
        self._addresses = plan.addresses()
        self._keeper = keeper
        self._asking = threading.Lock()

    def host(self, name: str) -> Host:
        """A host, router or laptop of the plan."""
        return Host(name, self._name + name, self._addresses[name])

    def part(self, *groups: list[str]) -> None:
        """Let nothing pass between these groups of hosts; whoever is in none is with the first."""
        for number, group in enumerate(groups):
            for name in group:
                self._ask(f"group {name} {number}")

    def join(self, *names: str) -> None:
        """Let these reach everybody again."""
        self.part(list(names))

    def traffic(self) -> dict[str, Traffic]:
        """What went over the line of each so far."""
        return {name: Traffic(*both) for name, both in json.loads(self._ask("traffic")).items()}

    def _ask(self, line: str) -> str:
        assert self._keeper.stdin is not None
        assert self._keeper.stdout is not None
        with self._asking:
            self._keeper.stdin.write(f"{line}\n")
            self._keeper.stdin.flush()
            answer = self._keeper.stdout.readline().strip()
        if not answer or answer.startswith("failed"):
            raise RuntimeError(f"the network does not do {line!r}: {answer or 'it is gone'}")
        return answer


def prefix() -> str:
    """What the names of namespaces of this process begin with, another one each time."""
    return f"kapla-{os.getpid()}-{next(_numbers)}-"


@contextmanager
def network(plan: Plan) -> Iterator[Network]:
    """Make a network; it is gone, with all that runs on its hosts, when the context ends.

    TCP controls congestion by cubic, and remembers nothing from one connection to another.
    Raises: NetworkUnavailable; ValueError, if two hosts have one name.
    """
    if len(set(plan.names())) < len(plan.names()):
        raise ValueError(f"names of hosts are there twice: {plan.names()}")
    require("ip", "nsenter", *(["nft"] if plan.homes else []))
    sweep()
    name = prefix()
    with running_keeper(_KEEPER, name, plan.format()) as (keeper, _):
        yield Network(name, plan, keeper)
