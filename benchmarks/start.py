"""How long `kapla` takes to begin: the whole process, against the least that it would need.

That is the same Python importing asyncio and sqlite3 and ending. Processor time of the child, user
and system, since what else the machine does then matters less. `stat` asks a daemon beside it; the
query is what the Guix daemon starts twice for each `guix build`, here without a question.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.report import Row, compare
from benchmarks.wire import kaplad

__all__ = ["run"]

_KAPLA: Final = str(Path(sys.executable).with_name("kapla"))
_BARE: Final = (sys.executable, "-c", "import asyncio, sqlite3")
_GOAL: Final = 2.0
# Each with what it may take at most, times the bare import.
_CASES: Final = (
    (("--version",), 2.0),
    (("--help",), 3.0),
    (("substitute", "--help"), 2.3),
    (("stat",), 2.5),
    (("substitute", "--query", "--reply-fd", "1"), None),
)


def run(rounds: int) -> list[Row]:
    """Measure over this many rounds; in each, every command runs once, after the bare one."""
    times: dict[tuple[str, ...], list[tuple[float, float]]] = {case: [] for case, _ in _CASES}
    with (
        tempfile.TemporaryDirectory(prefix="kb-") as directory,
        kaplad(Path(directory)) as (url, _, _process),
    ):
        environment = {**os.environ, "ERIS_STORE_URL": url}
        for number in range(rounds + 1):
            for case, seen in times.items():
                bare_s = _cpu_s(_BARE, environment)
                ours_s = _cpu_s((_KAPLA, *case), environment)
                if number:  # the first is for the page cache
                    seen.append((ours_s * 1000, bare_s * 1000))
    return [
        compare(
            f"kapla {' '.join(case)}",
            [ours for ours, _ in times[case]],
            [bare for _, bare in times[case]],
            "ms",
            bar,
            None if bar is None else _GOAL,
            at_most=True,
        )
        for case, bar in _CASES
    ]


def _cpu_s(command: tuple[str, ...], environment: dict[str, str]) -> float:
    """Processor time of one run, in seconds."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime
