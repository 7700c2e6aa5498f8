"""Two network namespaces, and a link between them that is as slow and as far as asked.

```python
with link(rtt_ms=50, mbit_s=100) as wire:
    subprocess.run(wire.near.command("curl", f"http://{wire.far.address}:8000/"))
```
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.network.keepers import running_keeper
from benchmarks.network.namespaces import require, sweep, within
from benchmarks.network.network import Traffic, prefix
from benchmarks.network.tun import DEVICE

__all__ = ["ADDRESSES", "Link", "Side", "link"]

ADDRESSES: Final = ("10.77.0.1", "10.77.0.2")

_KEEPER: Final = "benchmarks.link.keeper"


@dataclass(frozen=True, slots=True)
class Side:
    """One end of the link: a namespace, and its address, which exists only there."""

    namespace: str
    address: str

    def command(self, *arguments: str | Path) -> list[str]:
        """The command that runs a command on this side, in the same process."""
        return within(self.namespace, *arguments)

    def traffic(self) -> Traffic:
        """What went over this end of the link so far."""
        command = ["ip", "-n", self.namespace, "-json", "-stats", "link", "show", "dev", DEVICE]
        shown = subprocess.run(command, check=True, capture_output=True)
        counters = json.loads(shown.stdout)[0]["stats64"]
        return Traffic(counters["rx"]["bytes"], counters["tx"]["bytes"])


@dataclass(frozen=True, slots=True)
class Link:
    """A link, and what shapes it: `netem`, or `tun` for the program here."""

    near: Side
    far: Side
    rtt_ms: float
    mbit_s: float
    shaper: str


@contextmanager
def link(rtt_ms: float, mbit_s: float) -> Iterator[Link]:
    """Make a link; it is gone, with all that runs on its sides, when the context ends.

    Each direction has half the round trip, the whole rate, and a queue of one bandwidth-delay
    product. TCP controls congestion by cubic, and remembers nothing from one connection to another.
    Raises: NetworkUnavailable.
    """
    require("ip", "nsenter")
    sweep()
    name = prefix()
    near, far = (Side(f"{name}{end}", at) for end, at in zip("nf", ADDRESSES, strict=True))
    arguments = [near.namespace, far.namespace, str(rtt_ms), str(mbit_s)]
    with running_keeper(_KEEPER, *arguments) as (_, shaper):
        yield Link(near, far, rtt_ms, mbit_s, shaper)
