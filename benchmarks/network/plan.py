"""What a network is to be: hosts with a line each, some of them homes with laptops behind a NAT."""

from __future__ import annotations

import json
from enum import Enum
from typing import Final, NamedTuple

__all__ = ["NETWORK", "Home", "Line", "Nat", "Plan", "Spot", "parse_plan"]

NETWORK: Final = "10.77.0.0/16"
"""All addresses of hosts. Whatever is sent to one that nobody has is swallowed."""
_ADDRESS: Final = "10.77.{}.{}"


class Line(NamedTuple):
    """The line of a host: `rtt_ms` there and back, and its rates; None: as fast as it goes.

    The round trip between two hosts is the sum of theirs. Half of it passes on the way up.
    """

    rtt_ms: float
    up_mbit_s: float | None
    down_mbit_s: float | None


class Nat(Enum):
    """How a router gives ports to what goes out; nothing comes in that was not asked for."""

    PORT_PRESERVING = "port-preserving"
    """The port outside is that inside, where it is free: the same for all destinations."""
    SYMMETRIC = "symmetric"
    """Each connection gets a port of its own that nobody can tell before."""


class Spot(NamedTuple):
    """A host by its name."""

    name: str
    line: Line


class Home(NamedTuple):
    """A router with a line, and laptops on a bridge behind it."""

    name: str
    line: Line
    nat: Nat
    laptops: tuple[str, ...]


class Plan(NamedTuple):
    """A whole network; addresses are given out in its order."""

    spots: tuple[Spot, ...]
    homes: tuple[Home, ...] = ()

    def ends(self) -> list[Spot | Home]:
        """Whatever has a line and an address."""
        return [*self.spots, *self.homes]

    def names(self) -> list[str]:
        """All hosts, routers and laptops."""
        laptops = [laptop for home in self.homes for laptop in home.laptops]
        return [*(end.name for end in self.ends()), *laptops]

    def addresses(self) -> dict[str, str]:
        """Where each host is for the others: of a laptop, the address that its router has."""
        numbered = enumerate(self.ends(), 1)
        found = {end.name: _ADDRESS.format(n // 250, n % 250 + 1) for n, end in numbered}
        return found | {laptop: found[home.name] for home in self.homes for laptop in home.laptops}

    def format(self) -> str:
        """As text, for `parse_plan`."""
        homes = [(home.name, home.line, home.nat.value, home.laptops) for home in self.homes]
        return json.dumps([self.spots, homes])


def parse_plan(text: str) -> Plan:
    """Read what `Plan.format` wrote."""
    spots, homes = json.loads(text)
    return Plan(
        tuple(Spot(name, Line(*line)) for name, line in spots),
        tuple(
            Home(name, Line(*line), Nat(nat), tuple(laptops)) for name, line, nat, laptops in homes
        ),
    )
