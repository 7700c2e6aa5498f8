"""Print the table of the substitutes."""

from __future__ import annotations

import sys

from benchmarks.report import format_row, heading
from benchmarks.substitutes import run

if __name__ == "__main__":
    print(heading())
    for row in run(int(sys.argv[1]) if len(sys.argv) > 1 else 5):
        print(format_row(row))
