"""Two network namespaces, and a link between them that is as slow and as far as asked.

```python
with link(rtt_ms=50, mbit_s=100) as wire:
    subprocess.run(wire.near.command("curl", f"http://{wire.far.address}:8000/"))
```
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.network.namespaces import NetworkUnavailable, require, sweep, within
from benchmarks.network.network import Traffic, prefix
from benchmarks.network.tun import DEVICE

__all__ = ["ADDRESSES", "Link", "Side", "link"]

ADDRESSES: Final = ("10.77.0.1", "10.77.0.2")

_ROOT: Final = Path(__file__).parents[2]
_KEEPER: Final = (sys.executable, "-m", "benchmarks.link.keeper")
_PATIENCE_S: Final = 20


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
    keeper = subprocess.Popen(
        [*_KEEPER, near.namespace, far.namespace, str(rtt_ms), str(mbit_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=_ROOT,
        # Ctrl-C is for the program that measures; the keeper ends after it.
        start_new_session=True,
    )
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    try:
        word, _, rest = keeper.stdout.readline().strip().partition(" ")
        if word != "ready":
            raise NetworkUnavailable(rest or "the emulator did not start")
        yield Link(near, far, rtt_ms, mbit_s, rest)
    finally:
        keeper.stdin.close()
        keeper.wait(_PATIENCE_S)
        keeper.stdout.close()
