"""A process of a campaign: every so many-th seed, a line of JSON for each.

python -m tests.torture.worker KIND SEED STEP ROUNDS SECONDS [PLANT]
"""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.postgres import Server
from tests.torture import simulated
from tests.torture.history import Fault
from tests.torture.shim import Shim

__all__: list[str] = []

_Report = dict[str, object]

_servers: list[Server] = []
"""The one of this process, once it was wanted."""


def _simulated(seed: int, shim: Shim, place: Path, most: int, plant: str | None) -> _Report:
    run = simulated.Run(seed, shim, place, plant)
    try:
        run.go()
    except Fault as fault:
        return {"rounds": run.states, "fault": f"seed {seed}: {fault}"}
    return {"rounds": run.states}


def _real(seed: int, shim: Shim, place: Path, most: int, plant: str | None) -> _Report:
    # All that a daemon needs is imported by it, which the other kind needs not.
    from tests.torture.real import Chain

    chain = Chain(seed, shim, place, most)
    try:
        chain.go()
    except Fault as fault:
        return {"rounds": chain.rounds, "fault": f"seed {seed}, {fault}", "counted": chain.counted}
    return {"rounds": chain.rounds, "counted": chain.counted}


def _postgresql(seed: int, shim: Shim, place: Path, most: int, plant: str | None) -> _Report:
    from tests.torture.fleet import make_server
    from tests.torture.fronts import Chain

    if not _servers:
        try:
            _servers.append(make_server())
        except pytest.skip.Exception as why:
            return {"rounds": 0, "skipped": str(why)}
    chain = Chain(seed, _servers[0], place, most, plant)
    try:
        chain.go()
    except Fault as fault:
        return {"rounds": chain.rounds, "fault": f"seed {seed}, {fault}", "counted": chain.counted}
    return {"rounds": chain.rounds, "counted": chain.counted}


_KINDS: Final[dict[str, Callable[[int, Shim, Path, int, str | None], _Report]]] = {
    "simulated": _simulated,
    "real": _real,
    "postgresql": _postgresql,
}


def main() -> None:
    """Do seeds until there were enough rounds, or the time is up."""
    kind, seed, step, rounds, seconds, *plant = sys.argv[1:]
    # What the storage says of faults is not for the terminal.
    logging.getLogger().addHandler(logging.NullHandler())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    shim = Shim.loaded()
    assert shim is not None, "the shim is not preloaded"
    end, done, now = time.monotonic() + float(seconds), 0, int(seed)
    with simulated.directory() as place, contextlib.ExitStack() as stack:
        stack.callback(_tidy)
        simulated.warm_up(Path(place))
        while done < int(rounds) and time.monotonic() < end:
            report = _KINDS[kind](
                now, shim, Path(place), int(rounds) - done, plant[0] if plant else None
            )
            assert isinstance(report["rounds"], int)
            done += report["rounds"]
            now += int(step)
            print(json.dumps(report), flush=True)
            if "skipped" in report:
                return


def _tidy() -> None:
    # Whoever had enough of us says so, and may once more while we are at it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for server in _servers:
        server.stop()


if __name__ == "__main__":
    main()
