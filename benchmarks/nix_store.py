"""How soon `kapla publish` answers for a store of Nix: from its start to the first narinfo.

The store has 1,000 items, of a file each, and a database that real Nix has written. Each round is
a start with an empty cache: nothing of the items is known before but what the database says.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from benchmarks.report import Row, single
from guix_glue.formats import nixbase32
from guix_glue.local.archive import nar_hash

__all__ = ["run"]

_KAPLA: Final = str(Path(sys.executable).with_name("kapla"))
_ITEMS: Final = 1_000
_BAR_S: Final = 2.0
_PATIENCE_S: Final = 60.0
_LISTENING: Final = re.compile(r"Listening on http://127\.0\.0\.1:(\d+)")


def run(rounds: int) -> list[Row]:
    """Measure over this many rounds; without Nix there is no row."""
    if shutil.which("nix-store") is None:
        print("nix: nix-store is not installed", file=sys.stderr)
        return []
    with tempfile.TemporaryDirectory(prefix="kb-") as name:
        directory = Path(name)
        environment = os.environ | {
            "NIX_STORE_DIR": f"{name}/store",
            "NIX_STATE_DIR": f"{name}/var",
            "NIX_LOG_DIR": f"{name}/log",
            "NIX_CONF_DIR": f"{name}/etc",
            "NIX_CONFIG": "build-users-group =\nsubstituters =\n",
            "NIX_REMOTE": "local",
            "HOME": name,
        }
        names = _make_store(directory / "store", environment)
        # The first is for the page cache.
        times = [
            _first_narinfo_s(names[number], directory / f"cache-{number}", environment)
            for number in range(rounds + 1)
        ][1:]
    case = f"kapla publish, {_ITEMS:,} items of Nix"
    note = "from the start to the first narinfo"
    return [single(case, times, "s", _BAR_S, at_most=True, note=note)]


def _make_store(store: Path, environment: dict[str, str]) -> list[str]:
    """Make items and register them, each with a reference to the one before."""
    store.mkdir()
    names: list[str] = []
    lines: list[str] = []
    for number in range(_ITEMS):
        digest = hashlib.sha256(str(number).encode()).digest()[:20]
        name = f"{nixbase32.encode(digest)}-item-{number}"
        (store / name).write_text(f"{number}\n")
        (store / name).chmod(0o444)
        sha256, size = nar_hash(str(store / name))
        references = [str(store / names[-1])] if names else []
        lines += [str(store / name), sha256.hex(), str(size), "", str(len(references))]
        lines += references
        names.append(name)
    command = ["nix-store", "--load-db"]
    text = "".join(f"{line}\n" for line in lines)
    subprocess.run(command, input=text, text=True, env=environment, check=True)
    return names


def _first_narinfo_s(name: str, cache: Path, environment: dict[str, str]) -> float:
    command = [_KAPLA, "publish", "--listen", "127.0.0.1", "--port", "0", "--cache", str(cache)]
    started = time.monotonic()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if found := _LISTENING.search(line):
                break
        else:
            raise RuntimeError("kapla publish did not start")
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=_PATIENCE_S)
        connection.request("GET", f"/{name[:32]}.narinfo")
        reply = connection.getresponse()
        text = reply.read().decode()
        took_s = time.monotonic() - started
        connection.close()
        if reply.status != 200 or f"StorePath: {environment['NIX_STORE_DIR']}/{name}\n" not in text:
            raise RuntimeError(f"no narinfo of {name}: {reply.status}")
        return took_s
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_PATIENCE_S)
