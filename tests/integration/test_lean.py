"""Without what a lean installation leaves out: blocks go in and out, the rest says what to do."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kapla.uninstalled import LEFT_OUT
from tests.integration.daemon import GUARD_S, Daemon

REPOSITORY = Path(__file__).resolve().parents[2]

# A program, in an environment where these libraries cannot be found.
WITHOUT = """
import sys
left_out = set(sys.argv.pop(1).split(","))

class LeftOut:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in left_out:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, LeftOut)
if sys.argv.pop(1) == "kaplad":
    from kapla.__main__ import main
else:
    from kapla.cli.main import main
main()
"""


def without(program: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", WITHOUT, ",".join(LEFT_OUT), program, *arguments]


class LeanDaemon(Daemon):
    """The daemon of a lean installation."""

    @property
    def command(self) -> list[str]:
        return without("kaplad", *super().command[1:])


@pytest.fixture(scope="module")
def daemon() -> Iterator[LeanDaemon]:
    with tempfile.TemporaryDirectory(prefix="kapla-") as name:
        daemon = LeanDaemon(Path(name))
        try:
            daemon.start()
            yield daemon
        finally:
            daemon.kill()


def run(
    daemon: Daemon, program: str, *arguments: str, code: int = 0
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        without(program, *arguments),
        env={**os.environ, "ERIS_STORE_URL": daemon.url, "HOME": str(daemon.directory)},
        capture_output=True,
        text=True,
        timeout=GUARD_S,
        check=False,
    )
    assert done.returncode == code, done
    return done


def listed(text: str) -> dict[str, str]:
    """Libraries and what is said of their versions, and of that of Python."""
    return dict(re.findall(r"^ *([\w.-]+) *(>=.+)$", text, re.MULTILINE))


def test_the_list_is_what_is_not_left_out() -> None:
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    needed = listed(setup["options"]["install_requires"])
    lean = listed((REPOSITORY / "packaging" / "lean.txt").read_text())
    assert {**lean, **{name: needed[name] for name in LEFT_OUT.values()}} == needed
    assert not lean.keys() & set(LEFT_OUT.values())


@pytest.mark.parametrize("options", [(), ("--packed",)])
def test_a_tree_goes_in_and_comes_out(
    daemon: LeanDaemon, tmp_path: Path, options: tuple[str, ...]
) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("x" * 5000)
    urn = run(daemon, "kapla", "encode", *options, str(tmp_path / "tree")).stdout.strip()
    run(daemon, "kapla", "decode", urn, str(tmp_path / "copy"))
    assert (tmp_path / "copy" / "file").read_text() == "x" * 5000


def test_a_command_says_what_it_needs(daemon: LeanDaemon) -> None:
    said = run(daemon, "kapla", "publish", code=1).stderr
    assert said.startswith("kapla: the command publish cannot be loaded: this needs aiohttp,")
    assert said.count("\n") == 1


def test_a_store_of_http_says_what_it_needs(daemon: LeanDaemon) -> None:
    urn = (
        "urn:eris:BIAMWXADC5NS4HOFFIFFHSOG3US6574PHXVC2ROZS3MKD2K5HP5"
        "YROCEKZBVYOP4W6ADZ4XSJXML6YEKFKWHG3RZEAPTXTJMIAU3R373KM"
    )
    arguments = ("verify", "--store-url", "http://127.0.0.1:1", urn)
    done = run(daemon, "kapla", *arguments, code=3)
    assert "this needs aiohttp" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_daemon_says_what_a_setting_needs(daemon: LeanDaemon, tmp_path: Path) -> None:
    option = ("--http", "127.0.0.1:0")
    place = ("--listen", f"coap+unix://{daemon.directory}/other.sock")
    said = run(daemon, "kaplad", "--store", str(tmp_path / "s"), *place, *option, code=2).stderr
    assert said.endswith(
        "this needs aiohttp, which a lean installation leaves out: pip install aiohttp\n"
    )
