"""Runs one seed after another in several processes, until there were enough or the time is up."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from tests.torture.shim import environment

__all__ = ["Campaign", "Result"]

_GRACE_S: Final = 60.0


@dataclass(slots=True)
class Result:
    """What came of it."""

    rounds: int = 0
    faults: list[str] = field(default_factory=list)
    counted: dict[str, int] = field(default_factory=dict)
    """What befell the rounds, by kind."""
    elapsed_s: float = 0.0
    skipped: str = ""
    """Why nothing was done, if that is so."""


@dataclass(frozen=True, slots=True)
class Campaign:
    """One kind of torture: `python -m tests.torture.worker KIND` has a process do its part."""

    kind: str
    library: Path
    seed: int
    rounds: int
    seconds: float
    jobs: int
    plant: str | None = None
    most_faults: int = 20

    def run(self) -> Result:
        """Have it done; a line for each fault as it is found."""
        started = time.monotonic()
        result = Result()
        workers = [self._start(number) for number in range(self.jobs)]
        try:
            for report in _reports(workers):
                self._take(result, report)
                if result.rounds >= self.rounds or len(result.faults) >= self.most_faults:
                    break
            else:
                self._look_at_ends(result, workers)
        finally:
            _end(workers)
        result.elapsed_s = time.monotonic() - started
        return result

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        rounds = -(-self.rounds // self.jobs)
        told = [self.seed + number, self.jobs, rounds, self.seconds]
        command = [sys.executable, "-m", "tests.torture.worker", self.kind, *map(str, told)]
        return subprocess.Popen(
            [*command, self.plant] if self.plant else command,
            env=os.environ | environment(self.library),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def _look_at_ends(self, result: Result, workers: Sequence[subprocess.Popen[bytes]]) -> None:
        for number, worker in enumerate(workers):
            if worker.wait():
                fault = f"worker {number} of seed {self.seed} failed: see above"
                self._take(result, {"rounds": 0, "fault": fault})

    def _take(self, result: Result, report: dict[str, object]) -> None:
        assert isinstance(report["rounds"], int)
        result.rounds += report["rounds"]
        result.skipped = str(report.get("skipped", result.skipped))
        counted = report.get("counted")
        for name, count in counted.items() if isinstance(counted, dict) else ():
            result.counted[name] = result.counted.get(name, 0) + count
        if report.get("fault"):
            result.faults.append(str(report["fault"]))
            print(f"torture: {report['fault']}", flush=True)


def _reports(workers: Sequence[subprocess.Popen[bytes]]) -> Iterator[dict[str, object]]:
    """What the workers say, one line of JSON a run, as it comes."""
    reading = {worker.stdout.fileno(): worker.stdout for worker in workers if worker.stdout}
    rest: dict[int, bytes] = dict.fromkeys(reading, b"")
    while reading:
        ready, _, _ = select.select(list(reading), [], [])
        for descriptor in ready:
            data = os.read(descriptor, 1 << 16)
            if not data:
                del reading[descriptor]
                continue
            *lines, rest[descriptor] = (rest[descriptor] + data).split(b"\n")
            yield from map(json.loads, lines)


def _end(workers: Sequence[subprocess.Popen[bytes]]) -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        try:
            worker.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
        _close(worker.stdout)


def _close(stream: IO[bytes] | None) -> None:
    if stream is not None:
        stream.close()
