"""A large file and a real tree through a running daemon: rates, and memory on both sides."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Final

from benchmarks.report import Row, format_row, heading, single
from benchmarks.scratch import kept_directory
from benchmarks.wire import kaplad

__all__ = ["run"]

_MEMORY_BAR: Final = 150.0
_LARGE: Final = 1 << 30
_STEP: Final = 1 << 20


class _MemoryWatch:
    """The largest RssAnon of a process, in MiB, looked at until the watch is stopped."""

    def __init__(self, process: int) -> None:
        self.peak = 0.0
        self._status = Path(f"/proc/{process}/status")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def stop(self) -> float:
        self._stop.set()
        self._thread.join()
        return self.peak

    def _look(self) -> None:
        while not self._stop.wait(0.02):
            try:
                lines = self._status.read_text().splitlines()
            except OSError:
                return
            found = [int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")]
            self.peak = max([self.peak, *found])


def _make_file(path: Path) -> None:
    source = random.Random(1)
    with path.open("wb") as file:
        for _ in range(_LARGE // _STEP):
            file.write(source.randbytes(_STEP))


def _copy_library(path: Path) -> tuple[int, int]:
    """Copy the standard library; returns its files and bytes."""
    ignored = shutil.ignore_patterns("__pycache__", "site-packages", "*.pyc")
    shutil.copytree(sysconfig.get_path("stdlib"), path, symlinks=True, ignore=ignored)
    files = [found for found in path.rglob("*") if found.is_file()]
    return len(files), sum(found.stat().st_size for found in files)


def _timed(url: str, *arguments: str) -> tuple[float, float, str]:
    """Run `kapla`; returns seconds, peak MiB and what it printed."""
    program = Path(sys.executable).with_name("kapla")
    begin = time.perf_counter()
    with subprocess.Popen(
        [program, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"ERIS_STORE_URL": url},
    ) as process:
        watch = _MemoryWatch(process.pid)
        output, _ = process.communicate()
        seconds = time.perf_counter() - begin
    peak = watch.stop()
    if process.returncode:
        raise RuntimeError(f"kapla {arguments[0]} failed")
    return seconds, peak, output.strip()


def run(rounds: int) -> list[Row]:
    """Measure all cases over this many rounds, each with a fresh store."""
    rates: dict[str, list[float]] = defaultdict(list)
    memory: dict[str, list[float]] = defaultdict(list)
    here = kept_directory()
    _make_file(here / "large")
    file_count, tree_bytes = _copy_library(here / "tree")
    for number in range(rounds):
        with (
            tempfile.TemporaryDirectory(prefix="kb-") as store,
            kaplad(Path(store)) as (url, _, process),
        ):
            watch = _MemoryWatch(process)
            for name, size in (("large", _LARGE), ("tree", tree_bytes)):
                out = here / f"{name}-{number}"
                seconds, peak, urn = _timed(url, "encode", str(here / name))
                rates[f"encode {name}"].append(size / seconds / 1e6)
                memory[f"encode {name}"].append(peak)
                if name == "tree":
                    rates["encode files"].append(file_count / seconds)
                seconds, peak, _ = _timed(url, "decode", urn, str(out))
                rates[f"decode {name}"].append(size / seconds / 1e6)
                memory[f"decode {name}"].append(peak)
                if name == "tree":
                    rates["decode files"].append(file_count / seconds)
                else:
                    out.unlink()
            memory["daemon"].append(watch.stop())
    (here / "large").unlink()
    label = {"large": "a 1 GiB file", "tree": f"a tree of {file_count:,} files"}
    rows = []
    for name, text in label.items():
        for way in ("encode", "decode"):
            rows.append(single(f"{way} {text}", rates[f"{way} {name}"], "MB/s"))
            if name == "tree":
                rows.append(single(f"{way} {text}", rates[f"{way} files"], "files/s"))
            peaks = memory[f"{way} {name}"]
            case = f"{way} {text}, client's RssAnon"
            rows.append(single(case, [max(peaks)], "MiB", _MEMORY_BAR, at_most=True))
    case = "daemon's RssAnon meanwhile"
    rows.append(single(case, [max(memory["daemon"])], "MiB", _MEMORY_BAR, at_most=True))
    return rows


def main() -> None:
    """Print the table."""
    print(heading())
    for row in run(int(sys.argv[1]) if len(sys.argv) > 1 else 3):
        print(format_row(row))


if __name__ == "__main__":
    main()
