"""What `make torture` runs: each kind for some seconds or rounds; 1 if anything was found.

python -m tests.torture [simulated] [real] [postgresql]    all kinds, if none is named
    --seconds N --rounds N --jobs N                for each kind; what is reached first ends it
    --seed N                                       the first seed; else one that is printed
    --plant NAME                                   a fault that must be found
A run does everything from its seed: `--seed N --rounds 1 --jobs 1` does it again.
"""

from __future__ import annotations

import argparse
import os
import sys

from tests.torture.campaign import Campaign
from tests.torture.front_plants import FRONT_PLANTS
from tests.torture.plants import PLANTS
from tests.torture.shim import NO_COMPILER, build

_KINDS = ("simulated", "real", "postgresql")
_NO_END = 10**12


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.torture")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="simulated, real, postgresql")
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--rounds", type=int, default=_NO_END)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    parser.add_argument("--plant", choices=sorted([*PLANTS, *FRONT_PLANTS]))
    arguments = parser.parse_args()
    if unknown := set(arguments.kinds) - set(_KINDS):
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    if arguments.seconds == float("inf") and arguments.rounds == _NO_END:
        arguments.seconds = 60.0
    if arguments.plant:
        arguments.kinds = ["simulated" if arguments.plant in PLANTS else "postgresql"]
    return arguments


def main() -> int:
    """Run what the command line asks for."""
    arguments = _arguments()
    library = build()
    if library is None:
        print(f"torture: skipped: {NO_COMPILER}")
        return 0
    found = 0
    for kind in arguments.kinds or _KINDS:
        print(f"torture: {kind}, from seed {arguments.seed}", flush=True)
        result = Campaign(
            kind,
            library,
            arguments.seed,
            arguments.rounds,
            arguments.seconds,
            arguments.jobs,
            arguments.plant,
        ).run()
        found += len(result.faults)
        if result.skipped:
            print(f"torture: {kind}: skipped: {result.skipped}")
            continue
        a_minute = result.rounds / max(result.elapsed_s, 0.001) * 60
        print(
            f"torture: {kind}: {result.rounds} rounds in {result.elapsed_s:.0f} s"
            f" ({a_minute:.0f} a minute), {len(result.faults)} faults"
        )
        for name, count in sorted(result.counted.items()):
            print(f"    {count:9} {name}")
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
