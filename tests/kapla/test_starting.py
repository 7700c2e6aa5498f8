"""What `kaplad` loads: only what it is to do needs. Deterministic, unlike its time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.daemon import GUARD_S

SCRIPT = """
import atexit, gc, sys
into = sys.argv.pop(1)
atexit.register(lambda: print(*sys.modules, "-collecting" * gc.isenabled(), file=open(into, "w")))
from kapla.starting import main
main()
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The modules of a daemon that has served on a Unix socket."""
    place = tmp_path_factory.mktemp("d")
    served = ["--store", f"{place}/blocks.sqlite", "--listen", f"coap+unix://{place}/s"]
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, f"{place}/modules", *served],
        env={"HOME": str(place), "XDG_STATE_HOME": str(place)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert any("Listening on" in line for line in process.stderr)
        process.terminate()
        process.communicate(timeout=GUARD_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    return set((place / "modules").read_text().split())


def test_what_does_not_serve_loads_no_daemon(tmp_path: Path) -> None:
    into, store = tmp_path / "modules", tmp_path / "blocks.sqlite"
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(into), "--check-config", "--store", str(store)],
        env={"HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)},
        check=True,
        timeout=GUARD_S,
    )
    modules = set(into.read_text().split())
    assert "kapla.config.verdict" in modules
    assert not modules & {"kapla.daemon", "asyncio", "sqlalchemy", "aiocoap"}


def test_without_tls_nothing_of_it_is_loaded(loaded: set[str]) -> None:
    assert "kapla.daemon" in loaded
    assert not loaded & {"cryptography", "nacl", "kapla.identity.contexts", "kapla.tls"}


def test_without_doors_and_neighbours_nothing_of_them_is_loaded(loaded: set[str]) -> None:
    assert not loaded & {"aiohttp", "httptools", "zeroconf", "kapla.http.doors"}


def test_what_looks_at_damaged_stores_is_not_loaded(loaded: set[str]) -> None:
    assert not loaded & {
        "kapla.care",
        "kapla.storage.sqlite.care.scan",
        "kapla.storage.sqlite.care.check",
    }


def test_garbage_is_collected_again_when_all_is_loaded(loaded: set[str]) -> None:
    assert "-collecting" in loaded
