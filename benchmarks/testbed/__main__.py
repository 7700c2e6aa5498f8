"""`make testbed`: play the scenarios; print bar, figure, and what was seen.

    python -m benchmarks.testbed [--seed N] [SCENARIO]...

Ends with 1 if a scenario went wrong or a bar is not reached. Without root, or without what networks
are made with, it says so and ends with 0.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.network import NetworkUnavailable
from benchmarks.report import format_row, heading, verdict
from benchmarks.testbed.scenarios import SCENARIOS, play


def main() -> int:
    """Play those that are asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.testbed", description=__doc__)
    parser.add_argument("scenarios", nargs="*", choices=[[], *SCENARIOS], metavar="SCENARIO")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    good = True
    print(f"seed {arguments.seed}\n{heading()}", flush=True)
    try:
        for played in play(arguments.scenarios or list(SCENARIOS), arguments.seed):
            for row in played.rows:
                print(format_row(row), flush=True)
                good = good and verdict(row) != "NOT REACHED"
            if played.failure is not None:
                print(f"{played.name}: FAILED: {played.failure}", flush=True)
                good = False
            print(f"  ({played.name}: {played.seconds:.0f} s)", flush=True)
    except NetworkUnavailable as error:
        print(f"testbed: left out, no network can be made here: {error}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
