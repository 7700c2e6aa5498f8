"""`make bench`: every case, for us and for the peers, in one run.

Prints the table, and writes it with the machine and the versions to benchmarks/results.json,
docs/performance.md and docs/growth.svg. Arguments name the parts to run; without any, all but
`bytes`, which downloads packages (`make bench-bytes`). What is not run keeps the figures that it
has.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Final

from benchmarks import (
    backups,
    bare_sqlite,
    care,
    clients,
    codec,
    crowd,
    doors,
    eviction,
    files,
    growth,
    link,
    maps,
    neighbours,
    nix_store,
    over_http,
    package_bytes,
    pins,
    plot,
    postgresql,
    reader,
    seeding,
    seeds,
    start,
    strangers,
    substitutes,
    tls,
    trees,
    wire,
)
from benchmarks.document import Part, write_figures
from benchmarks.report import Row, format_row, heading
from benchmarks.testbed import scenarios

_PARTS: Final[dict[str, tuple[Callable[[int], list[Row]], int]]] = {
    "start": (start.run, 25),
    "codec": (codec.run, 15),
    "wire": (wire.run, 9),
    "tls": (tls.run, 5),
    "seeds": (seeds.run, 5),
    "seeding": (seeding.run, 5),
    "files": (files.run, 3),
    "sqlite": (bare_sqlite.run, 3),
    "care": (care.run, 5),
    "clients": (clients.run, 3),
    "neighbours": (neighbours.run, 3),
    "strangers": (strangers.run, 3),
    "trees": (trees.run, 3),
    "backups": (backups.run, 5),
    "reader": (reader.run, 5),
    "doors": (doors.run, 3),
    "link": (link.run, 3),
    "http": (over_http.run, 5),
    "peers": (scenarios.run, 1),
    "growth": (growth.run, 3),
    "eviction": (eviction.run, 3),
    "pins": (pins.run, 3),
    "crowd": (crowd.run, 3),
    "postgresql": (postgresql.run, 3),
    "substitutes": (substitutes.run, 5),
    "nix": (nix_store.run, 5),
    "maps": (maps.run, 5),
    "bytes": (package_bytes.run, 3),
}
_ONLY_WHEN_NAMED: Final = frozenset({"bytes"})
_DOCUMENT: Final = Path(__file__).parent.parent / "docs" / "performance.md"
_PLOT: Final = _DOCUMENT.with_name("growth.svg")
_RESULTS: Final = Path(__file__).with_name("results.json")
_PACKAGES: Final = ("kapla", "aiocoap", "cryptography", "SQLAlchemy", "blake3")


def _machine() -> dict[str, str | int | None]:
    """What the figures hold for."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load before": f"{os.getloadavg()[0]:.1f}",
        "python-eris": _peer_version(),
        **{name: version(name) for name in _PACKAGES},
    }


def _peer_version() -> str:
    python = os.environ.get("KAPLA_PEERS_PYTHON", ".venv-peers/bin/python")
    asked = "from importlib.metadata import version; print(version('eris'))"
    found = subprocess.run([python, "-c", asked], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "missing"


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *_PARTS], metavar="PART")
    parser.add_argument("--rounds", type=int, help="instead of each part's own number")
    arguments = parser.parse_args()
    # What was started ends too, and what was written goes, as after an interruption.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    described = ", ".join(f"{name} {value}" for name, value in _machine().items())
    print(described)
    # What is stored here is nothing for the catalogue of whoever runs this.
    data = tempfile.TemporaryDirectory(prefix="kapla-bench-")
    os.environ["XDG_DATA_HOME"] = data.name
    results: dict[str, Part] = json.loads(_RESULTS.read_text()) if _RESULTS.exists() else {}
    for name in arguments.parts or [name for name in _PARTS if name not in _ONLY_WHEN_NAMED]:
        run, rounds = _PARTS[name]
        print(f"\n{name}\n{heading()}", flush=True)
        rows = run(arguments.rounds or rounds)
        for row in rows:
            print(format_row(row), flush=True)
        results[name] = Part(machine=described, rows=rows)
        _RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    if "growth" in results:
        _PLOT.write_text(plot.draw(results["growth"]["rows"]))
    write_figures(_DOCUMENT, {name: results[name] for name in _PARTS if name in results})


if __name__ == "__main__":
    main()
