"""The campaign: each target for some seconds, a line for each; 1 if anything was found.

python -m tests.fuzz [TARGET...]           what `make fuzz` runs
python -m tests.fuzz TARGET --input FILE   once, with what was found before; needs no atheris
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.fuzz.seeds import MAX_SIZE, seeds
from tests.fuzz.targets import TARGETS

FOUND = Path("build") / "fuzz"
"""Where inputs are left that led to a finding, and for each target what it printed."""

_DEFAULT_S = 20
# For one input; real ones take a millisecond.
_TIMEOUT_S = 10
_MEMORY_MIB = 2048
# What starting, the corpus and one hanging input may take beside.
_GRACE_S = 60


def fuzz(name: str, seconds: int) -> int:
    """Fuzz one target and print its line; returns the number of findings."""
    FOUND.mkdir(parents=True, exist_ok=True)
    for old in FOUND.glob(f"{name}-*"):
        old.unlink()
    log = FOUND / f"{name}.log"
    with TemporaryDirectory() as corpus, log.open("w") as output:
        for seed in seeds(name):
            (Path(corpus) / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
        # libFuzzer ends a target by itself; this is for one that does not even do that.
        try:
            status = subprocess.run(
                _command(name, corpus, seconds),
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=seconds + _GRACE_S,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            status = -1
    crashes = sorted(FOUND.glob(f"{name}-*"))
    count = max(len(crashes), status != 0)
    executions = max(map(int, re.findall(r"^#([0-9]+)", log.read_text(), re.MULTILINE)), default=0)
    print(f"{name:18}{executions:10} executions {executions // seconds:8}/s {count:4} crashes")
    for crash in crashes:
        print(f"    {crash}")
    if status and not crashes:
        print(f"    ended with status {status}: see {log}")
    sys.stdout.flush()
    return count


def _command(name: str, corpus: str, seconds: int) -> list[str]:
    options = {
        "max_total_time": seconds,
        "max_len": MAX_SIZE,
        "timeout": _TIMEOUT_S,
        "rss_limit_mb": _MEMORY_MIB,
        "artifact_prefix": f"{FOUND}/{name}-",
        "print_final_stats": 1,
    }
    given = [f"-{option}={value}" for option, value in options.items()]
    return [sys.executable, "-m", "tests.fuzz.one", name, str(FOUND), corpus, *given]


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--input", type=Path, help="run the target once with this file")
    arguments = parser.parse_args()
    names = arguments.targets or list(TARGETS)
    if unknown := set(names) - TARGETS.keys():
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    if arguments.input is not None:
        for name in names:
            TARGETS[name](arguments.input.read_bytes())
        return 0
    if importlib.util.find_spec("atheris") is None:
        print("fuzz: skipped: atheris is not installed")
        return 0
    seconds = max(1, int(os.environ.get("KAPLA_FUZZ_SECONDS", _DEFAULT_S)))
    return int(sum([fuzz(name, seconds) for name in names]) > 0)


if __name__ == "__main__":
    sys.exit(main())
