"""Print the table of the cases over a link."""

from __future__ import annotations

import sys

from benchmarks.link import run
from benchmarks.report import format_row, heading

if __name__ == "__main__":
    print(heading())
    for row in run(int(sys.argv[1]) if len(sys.argv) > 1 else 3):
        print(format_row(row))
