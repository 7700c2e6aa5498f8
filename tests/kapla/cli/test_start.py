"""What a command loads before it begins: only what it needs. Deterministic, unlike its time.

`make bench` has the times.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path

import click
import pytest

from kapla.cli.commands import GROUP, OWN
from tests.integration.daemon import Daemon, running_daemon

LoadedBy = Callable[..., set[str]]

REPOSITORY = Path(__file__).resolve().parent.parent.parent.parent

# Each takes as long to load as a short command may take in all.
HEAVY = {
    "aiocoap",
    "aiohttp",
    "backports.zstd",
    "blake3",
    "cbor2",
    "compression.zstd",
    "cryptography",
    "httptools",
    "nacl",
    "platformdirs",
    "rich",
    "sqlalchemy",
    "sqlite3",
    "tomllib",
    "zstandard",
}
# What our own packages need them for.
OURS = {"eris.transfer", "eris_fs.packed", "eris_fs.tree", "kapla.daemon", "kapla.storage"}


SCRIPT = """
import atexit, sys
into = sys.argv.pop(1)
atexit.register(lambda: print(*sys.modules, file=open(into, "w")))
from kapla.cli.main import main
main()
"""


@pytest.fixture
def loaded_by(tmp_path: Path) -> LoadedBy:
    """The modules that `kapla` with some arguments has loaded when it ends."""

    def run(*arguments: str, store_url: str = "", code: int = 0) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "modules"), *arguments],
            env={**os.environ, "ERIS_STORE_URL": store_url},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == code, done
        return set((tmp_path / "modules").read_text().split())

    return run


def heavy(modules: set[str]) -> set[str]:
    return modules & (HEAVY | OURS)


@pytest.mark.parametrize("arguments", ["--version", "--help", "nonsense"])
def test_what_is_no_command_loads_nothing(loaded_by: LoadedBy, arguments: str) -> None:
    modules = loaded_by(arguments, code=2 if arguments == "nonsense" else 0)
    assert "kapla.cli.main" in modules
    assert not heavy(modules)
    assert "asyncio" not in modules
    assert not {name for name in modules if name.startswith("guix_glue")}


def test_kapla_alone_loads_as_little(loaded_by: LoadedBy, tmp_path: Path) -> None:
    modules = loaded_by(store_url=f"coap+unix://{tmp_path}/s")
    assert "kapla.cli.home" in modules
    assert not heavy(modules) - {"platformdirs", "sqlite3"}
    assert "asyncio" not in modules


@pytest.mark.parametrize("line", ["kapla ", "kapla decode @n", "kapla cat @notes"])
def test_completion_loads_no_library(
    loaded_by: LoadedBy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("_KAPLA_COMPLETE", "bash_complete")
    monkeypatch.setenv("_KAPLA_LINE", line)
    modules = loaded_by()
    assert "kapla.cli.completing.answering" in modules
    assert not heavy(modules) - {"tomllib", "platformdirs", "sqlite3", "eris.transfer"}


@pytest.mark.parametrize(
    "name",
    ["cat", "conformance", "decode", "info", "ls", "stat", "verify", "guix-daemon", "substitute"],
)
def test_the_help_of_a_command_loads_no_library(loaded_by: LoadedBy, name: str) -> None:
    modules = loaded_by(name, "--help")
    assert OWN[name].module in modules
    assert not heavy(modules) - {"tomllib", "platformdirs", "eris.transfer"}
    assert "importlib.metadata" not in modules


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running_daemon() as running:
        yield running


def test_stat_loads_the_client_alone(loaded_by: LoadedBy, daemon: Daemon) -> None:
    modules = loaded_by("stat", store_url=daemon.url)
    assert "kapla.remote_store" in modules
    assert not heavy(modules)


def test_a_query_of_the_guix_daemon_loads_no_cipher_and_no_tree(loaded_by: LoadedBy) -> None:
    modules = loaded_by("substitute", "--query", "--reply-fd", "1")
    assert "guix_glue.fetch.query" in modules
    assert not modules & {
        "aiohttp",
        "cryptography",
        "aiocoap",
        "sqlalchemy",
        "rich",
        "eris_fs.tree",
    }
    assert not modules & {"eris.transfer", "importlib.metadata", "guix_glue.local.restore"}
    assert not modules & {"eris_fs.zstd", "lzma", "guix_glue.formats.compression.decompressors"}


# --- the table of commands --------------------------------------------------------------------


def test_the_table_has_what_is_installed() -> None:
    setup = ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    lines = setup["options.entry_points"][GROUP].split("\n")
    declared = dict(line.split(" = ") for line in lines if line)
    assert declared == {name: f"{own.module}:command" for name, own in OWN.items()}


@pytest.mark.parametrize("name", OWN)
def test_the_table_says_what_the_command_does(name: str) -> None:
    command = import_module(OWN[name].module).command
    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.get_short_help_str(60) == OWN[name].short_help
