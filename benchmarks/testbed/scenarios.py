"""All scenarios by their names, and playing them one after the other.

Each has an end of its own, and so have all together: what is not begun in time is left out with a
word. A scenario that does not go as it must is told of and counted; the others go on.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.network import NetworkUnavailable
from benchmarks.report import Row
from benchmarks.testbed import crowd, homes, picture, sources, through
from benchmarks.testbed.stage import Curve, Failed

__all__ = ["PICTURE", "SCENARIOS", "Played", "play", "run"]

Scenario = Callable[[int], tuple[list[Row], list[Curve]]]

SCENARIOS: Final[dict[str, Scenario]] = {
    "through": through.through,
    "loopback": through.loopback,
    "four": sources.four,
    "nothing": sources.nothing,
    "nat": homes.behind_nat,
    "flash-crowd": crowd.flash_crowd,
    "churn": crowd.churn,
    "partition": crowd.partition,
    "hub-restart": homes.hub_restart,
}
PICTURE: Final = Path(__file__).parents[2] / "docs" / "peers.svg"
_BUDGET_S: Final = 15 * 60


class Played(NamedTuple):
    """What a scenario showed; `failure` says why it did not end well."""

    name: str
    seconds: float
    rows: Sequence[Row] = ()
    curves: Sequence[Curve] = ()
    failure: str | None = None


def play(names: Sequence[str], seed: int) -> Iterator[Played]:
    """Play these scenarios, each with this seed.

    Raises: NetworkUnavailable.
    """
    begin = time.monotonic()
    for name in names:
        if time.monotonic() - begin > _BUDGET_S:
            yield Played(name, 0.0, failure="there was no time left for it")
        else:
            yield _play(name, seed)


def _play(name: str, seed: int) -> Played:
    begin = time.monotonic()
    try:
        rows, curves = SCENARIOS[name](seed)
    except (Failed, RuntimeError) as error:
        return Played(name, time.monotonic() - begin, failure=str(error))
    except subprocess.CalledProcessError as error:
        said = str(error.stderr or "").strip()
        return Played(name, time.monotonic() - begin, failure=f"{error}: {said}")
    return Played(name, time.monotonic() - begin, rows, curves)


def run(rounds: int) -> list[Row]:
    """All rows over this many rounds, for the document; none, with a word, without a network.

    Draws the picture.
    """
    rows: list[Row] = []
    curves: dict[str, Sequence[Curve]] = {}
    try:
        for seed in range(1, rounds + 1):
            for played in play(list(SCENARIOS), seed):
                rows += played.rows
                curves.setdefault(played.name, played.curves)
                if played.failure is not None:
                    print(f"{played.name}, seed {seed}: {played.failure}", file=sys.stderr)
    except NetworkUnavailable as error:
        print(f"No network could be made: {error}. Its cases are left out.", file=sys.stderr)
        return []
    PICTURE.write_text(picture.draw(curves["four"], curves["flash-crowd"]))
    return rows
