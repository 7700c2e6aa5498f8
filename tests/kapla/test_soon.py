"""Which process is a daemon on its way to its socket: a made-up list of processes tells."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from kapla.__main__ import command
from kapla.config.table import SETTINGS
from kapla.soon import _INSTEAD, STARTING_S, is_starting

SOCKET = Path("/run/user/1000/eris.sock")
SCRIPT = ("/usr/bin/python3", "/usr/bin/kaplad")


def add(
    proc: Path,
    *arguments: str,
    number: int = 99_999_999,
    age_s: float = 0.5,
    listening: bool | None = None,
) -> None:
    """A process; `listening`: whether its Unix socket listens, None if it has none."""
    process = proc / str(number)
    (process / "fd").mkdir(parents=True)
    (process / "net").mkdir()
    (process / "cmdline").write_bytes(b"\0".join(map(os.fsencode, arguments)) + b"\0")
    ticks = (time.clock_gettime(time.CLOCK_BOOTTIME) - age_s) * os.sysconf("SC_CLK_TCK")
    behind = ["S", *["0"] * 18, str(int(ticks)), "0"]
    (process / "stat").write_text(f"{number} (kap) lad) {' '.join(behind)}\n")
    (process / "fd" / "0").symlink_to("/dev/null")
    if listening is not None:
        (process / "fd" / "7").symlink_to("socket:[4711]")
    flags = "00010000" if listening else "00000000"
    (process / "net" / "unix").write_text(
        "Num RefCount Protocol Flags Type St Inode Path\n"
        "0000000000000000: 00000002 00000000 00010000 0001 01 13 /run/other.sock\n"
        f"0000000000000000: 00000002 00000000 {flags} 0001 01 4711 {SOCKET}\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        SCRIPT,
        ("kaplad",),
        ("/usr/bin/kaplad", "--store", "x"),
        ("/usr/bin/python3.11", "-I", "/usr/bin/kaplad"),
        ("/gnu/store/x/bin/python3", "/gnu/store/y/bin/.kaplad-real"),
        ("/usr/bin/python3", "-m", "kapla"),
        (*SCRIPT, "--listen", f"coap+unix://{SOCKET}?get"),
        (*SCRIPT, "--listen=coap+unix:%2F%2F/run%2Fuser%2F1000/eris.sock"),
        (*SCRIPT, "--listen", "coap+tcp://[::1]", "--listen", f"coap+unix://{SOCKET}"),
    ],
)
def test_a_daemon_that_does_not_listen_yet(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    add(tmp_path, *arguments)
    assert is_starting(SOCKET, tmp_path)


def test_one_that_has_other_sockets_only(tmp_path: Path) -> None:
    add(tmp_path, *SCRIPT, listening=False)
    assert is_starting(SOCKET, tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        ("",),
        ("/bin/sh", "-c", "kaplad"),
        ("/usr/bin/vim", "kaplad"),
        ("/usr/bin/python3", "x", "y", "z", "a", "kaplad"),
        ("/usr/bin/python3", "-m", "kaplan"),
        (*SCRIPT, "--listen", "coap+unix:///run/user/1000/other.sock"),
        (*SCRIPT, "--check"),
        (*SCRIPT, "--store", "x", "--salvage", "y"),
        (*SCRIPT, "--salvage=y"),
    ],
)
def test_what_is_none(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    add(tmp_path, *arguments)
    assert not is_starting(SOCKET, tmp_path)


def test_all_that_ends_is_known() -> None:
    serves = {"--debug", "--rebuild-index", "--config"}
    serves |= {flag.name for setting in SETTINGS for flag in setting.flags}
    others = {option for parameter in command.params for option in parameter.opts} - serves - {"-d"}
    assert {*others, "-h", "--help"} == {option.decode() for option in _INSTEAD}


def test_one_that_listens_has_started(tmp_path: Path) -> None:
    add(tmp_path, *SCRIPT, listening=True)
    assert not is_starting(SOCKET, tmp_path)


def test_one_that_is_old_is_not_waited_for(tmp_path: Path) -> None:
    add(tmp_path, *SCRIPT, age_s=STARTING_S + 1)
    assert not is_starting(SOCKET, tmp_path)


def test_this_process_does_not_wait_for_itself(tmp_path: Path) -> None:
    add(tmp_path, *SCRIPT, number=os.getpid())
    assert not is_starting(SOCKET, tmp_path)


@pytest.mark.parametrize("text", ["", ")", "1 (x) S", "1 (x) " + "x " * 30])
def test_what_cannot_be_read_counts_as_no(tmp_path: Path, text: str) -> None:
    add(tmp_path, *SCRIPT)
    (tmp_path / "99999999" / "stat").write_text(text)
    (tmp_path / "12").mkdir()
    (tmp_path / "self").symlink_to("12")
    assert not is_starting(SOCKET, tmp_path)
    assert not is_starting(SOCKET, tmp_path / "nowhere")


def test_lines_that_make_no_sense_are_no_sockets(tmp_path: Path) -> None:
    add(tmp_path, *SCRIPT, listening=True)
    (tmp_path / "99999999" / "net" / "unix").write_text("Num\nx y\n")
    assert is_starting(SOCKET, tmp_path)
