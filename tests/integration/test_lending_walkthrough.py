"""docs/lending.md, word for word, with a smaller store: fill, lend, forget, damage, restore."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PROGRAMS = Path(sys.executable).parent
# Of what the page says, to what it takes here.
SIZES = {"2GiB": "24MiB", "-c 1G": "-c 12M", "-c 20M": "-c 4M"}
MOST_ON_DISK = 28 * 1024 * 1024


def script() -> str:
    """The shell commands of the page, one after the other."""
    text = (REPOSITORY / "docs" / "lending.md").read_text()
    commands = "\n".join(re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    for there, here in SIZES.items():
        assert there in commands
        commands = commands.replace(there, here)
    assert "5999" in commands
    commands = commands.replace("5999", str(free_port()))
    # Whoever types is slower than this: the daemon must have begun to listen.
    waiting = "until kapla stat >/dev/null 2>&1; do sleep 0.1; done"
    started = re.sub(r"^(kaplad .*&)$", rf"\1\n{waiting}", commands, flags=re.MULTILINE)
    return started.replace("du -h lend", "du --bytes --summarize lend")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    directory = tmp_path_factory.mktemp("walk")
    environment = {
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "HOME": str(directory / "home"),
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    with open(directory / "out", "w+") as out, open(directory / "err", "w+") as err:
        subprocess.run(
            ["bash", "-c", f"set -m\n{script()}"],
            cwd=directory,
            env=environment,
            stdout=out,
            stderr=err,
            timeout=110,
            check=False,
        )
        out.seek(0)
        err.seek(0)
        return out.read(), err.read()


def test_three_times_the_cap_stays_within_it_and_what_is_pinned_stays(
    said: tuple[str, str],
) -> None:
    out, err = said
    size = re.search(r"^(\d+)\tlend$", out, re.MULTILINE)
    assert size is not None, err
    assert int(size[1]) <= MOST_ON_DISK
    evicted = re.search(r"^evicted blocks: +([\d,]+)", out, re.MULTILINE)
    assert evicted is not None, err
    assert int(evicted[1].replace(",", "")) > 1000
    assert len(re.findall(r"^1\d\d blocks, 0 missing, 0 bad$", out, re.MULTILINE)) == 2, err


def test_a_stranger_gets_what_is_lent_and_nothing_before(said: tuple[str, str]) -> None:
    out, err = said
    assert out.count("not for strangers\n") == 1, err
    assert "the same\n" in out, err
    assert "nothing is lent yet" in err


def test_damage_is_found_dropped_and_repaired(said: tuple[str, str]) -> None:
    out, err = said
    for line in ("damaged", "something was bad", "something is missing"):
        assert f"{line}\n" in out, err
    assert re.search(r"^1\d\d blocks, 1 missing, 0 bad$", out, re.MULTILINE), err
    assert re.search(r"^1\d\d blocks, 0 missing, 0 bad, 1 repaired$", out, re.MULTILINE), err


def test_what_is_forgotten_is_pinned_no_more_and_the_copy_has_it(said: tuple[str, str]) -> None:
    out, err = said
    _, after = out.split("forgotten: notes")
    pinned = re.findall(r"^ *4\.\d MiB +4\.\d MiB +0 +yes +yes .*$", after, re.MULTILINE)
    assert len(pinned) == 1, err
