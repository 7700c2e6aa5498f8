"""The line at the end of a command: what it says, and who sees it."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kapla.cli.summary import Summary
from kapla.origins import Amount, Origins
from tests.integration.commands import Kapla
from tests.integration.daemon import GUARD_S, running_daemon

MIB = 1024 * 1024


def summary_of(*origins: tuple[str, Origins], sends: bool = False) -> Summary:
    summary = Summary(sends=sends)
    summary.advance(3 * MIB)
    for name, one in origins:
        summary.add(name, one)
    return summary


@pytest.mark.parametrize(
    ("summary", "text"),
    [
        (summary_of(), "3.0 MiB in 2.0 s (1.5 MiB/s)"),
        (
            summary_of(("here", Origins(Amount(3, 3 * MIB)))),
            "3.0 MiB in 2.0 s (1.5 MiB/s); all from here",
        ),
        (
            summary_of(
                ("here", Origins(Amount(1, MIB), {"desktop": Amount(2, 2 * MIB)})),
                ("TCP host:5683", Origins(Amount(0, 0), {"desktop": Amount(1, 512)})),
            ),
            "3.0 MiB in 2.0 s (1.5 MiB/s); 2.0 MiB from desktop, 1.0 MiB from here",
        ),
        (
            summary_of(("here", Origins(Amount(1, MIB), seeds=Amount(2, 2 * MIB)))),
            "3.0 MiB in 2.0 s (1.5 MiB/s); 2.0 MiB from seeds, 1.0 MiB from here",
        ),
        (
            summary_of(("here", Origins(put=Amount(2, 2 * MIB))), sends=True),
            "3.0 MiB in 2.0 s (1.5 MiB/s); 2 blocks sent (2.0 MiB)",
        ),
        (
            summary_of(("here", Origins()), sends=True),
            "3.0 MiB in 2.0 s (1.5 MiB/s); nothing sent, all was there",
        ),
        (
            summary_of(("here", Origins(peers={f"p{n}": Amount(1, 1024 * n) for n in range(9)}))),
            "3.0 MiB in 2.0 s (1.5 MiB/s); 8.0 KiB from p8, 7.0 KiB from p7, 6.0 KiB from p6,"
            " 5.0 KiB from p5, 4.0 KiB from p4, 6.0 KiB from 3 others",
        ),
    ],
    ids=["nobody tells", "here", "peers", "seeds", "sent", "nothing sent", "many"],
)
def test_what_is_said(summary: Summary, text: str) -> None:
    assert summary.text(2.0) == text


def test_what_was_there_is_not_called_sent() -> None:
    summary = Summary(sends=True, done="encoded")
    summary.reach(3, MIB)
    summary.add("here", Origins(put=Amount(2, 2048)), found=7)
    assert summary.text(0.04) == (
        "encoded 3 files, 1.0 MiB in 0.0 s; 2 blocks sent (2.0 KiB), the rest was there"
    )


def test_who_wants_to_know_more_is_told_of_times() -> None:
    summary = Summary(done="encoded")
    with summary.part("Encoding x"):
        pass
    summary.notes.append("cache: all")
    times, note = summary.details(2.0)
    assert times.startswith("Encoding x: 0.0")
    assert times.endswith("s, all else: 2.00 s")
    assert note == "cache: all"


def test_of_what_was_quick_no_rate_is_said_and_of_trees_the_files() -> None:
    summary = Summary()
    summary.reach(1, 2048)
    assert summary.text(0.04) == "1 file, 2.0 KiB in 0.0 s"
    summary.reach(1234, 2048)
    assert summary.text(0.04) == "1,234 files, 2.0 KiB in 0.0 s"


@pytest.fixture(scope="module")
def kapla(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kapla]:
    home = tmp_path_factory.mktemp("home")
    with running_daemon() as daemon:
        yield Kapla(home, daemon.url)


def on_a_terminal(kapla: Kapla, *arguments: str | Path) -> list[str]:
    """The lines that a person sees beside the result, without the display of progress."""
    own, other = os.openpty()
    try:
        done = subprocess.run(
            kapla.command(*arguments),
            env={**kapla.environment(), "TERM": "dumb", "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=other,
            check=False,
            timeout=GUARD_S,
            cwd=kapla.home,
        )
        assert done.returncode == 0
    finally:
        os.close(other)
    shown = b""
    try:
        while data := os.read(own, 65536):
            shown += data
    except OSError:  # at its end a terminal gives an error
        pass
    finally:
        os.close(own)
    lines = shown.decode().replace("\r", "\n").split("\n")
    return [line[line.index("kapla: ") :] for line in lines if "kapla: " in line]


def test_commands_end_with_a_line_on_a_terminal_and_nowhere_else(kapla: Kapla) -> None:
    path = kapla.home / "file"
    path.write_bytes(random.Random(4).randbytes(2 * MIB))
    [line] = on_a_terminal(kapla, "encode", "--out", "urn", path)
    assert line.startswith("kapla: encoded 2.0 MiB in ")
    assert line.endswith("; 66 blocks sent (2.1 MiB)")
    [line] = on_a_terminal(kapla, "encode", "--out", "urn", path)
    assert line.endswith("; nothing sent, all was there")
    lines = on_a_terminal(kapla, "encode", "-v", "--out", "urn", path)
    assert lines[1].startswith("kapla: Encoding ")
    assert lines[-1].startswith("kapla: Unix socket ")
    assert lines[-1].endswith(": nothing moved")
    [line] = on_a_terminal(kapla, "decode", "@urn", "out")
    assert line.startswith("kapla: decoded 2.0 MiB in ")
    assert line.endswith("; all from here")
    assert on_a_terminal(kapla, "decode", "-q", "@urn", "--force", "out") == []
    assert on_a_terminal(kapla, "-q", "decode", "@urn", "--force", "out") == []
    # `Kapla` itself sees to it that nothing is said where there is no terminal.
    kapla("decode", "@urn", "--force", "out")
