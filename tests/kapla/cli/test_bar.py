"""The line of progress: what is in it, in whatever room there is; and on a real terminal."""

from __future__ import annotations

import fcntl
import os
import random
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from unicodedata import east_asian_width

import pytest

from kapla.cli.bar import Pace, State, bar_line, plain_line
from kapla.cli.columns import table
from tests.integration.commands import Kapla
from tests.integration.daemon import GUARD_S, Daemon, running_daemon

MIB = 1024 * 1024
HALF = State("Encoding notes", 6 * MIB, 12 * MIB, 214, 2.0 * MIB)
WAITING = ("waiting for attic:5683: 12 blocks under way", "wait: attic:5683")


WIDE = State("Encoding …語日本語日本語日本語", 6 * MIB, 12 * MIB, 214, 2.0 * MIB)


@pytest.mark.parametrize("state", [WIDE, replace(WIDE, waiting=("日本" * 20, "本" * 20))])
def test_letters_of_two_columns_have_room_too(state: State) -> None:
    for columns in range(120):
        line = bar_line(state, columns)
        assert sum(1 + (east_asian_width(letter) == "W") for letter in line) <= columns


def test_a_table_of_wide_letters_stands_in_columns() -> None:
    assert table(["NAME", "SIZE"], [["日本語", "1"], ["e\u0301", "22"]], {1}) == [
        "NAME    SIZE",
        "日本語     1",
        "e\u0301         22",
    ]


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (3, ""),
        (5, " 50 %"),
        (19, " 50 %  6.0 MiB"),
        (39, " 50 %  6.0 MiB  2.0 MiB/s  0:04"),
        (50, "Encoding notes   50 %  6.0 MiB  2.0 MiB/s  0:04"),
        (79, "Encoding notes  ━━━━━━━━───────── 50 %  6.0 MiB  214 files  2.0 MiB/s  0:04"),
    ],
)
def test_what_tells_most_stays_longest(columns: int, line: str) -> None:
    found = bar_line(HALF, columns)
    assert len(found) <= columns
    assert re.sub("[━─]+ *", "", found) == re.sub("[━─]+ *", "", line)
    assert ("━" in found) == ("━" in line)


@pytest.mark.parametrize("waiting", [None, WAITING], ids=["on", "waits"])
@pytest.mark.parametrize("total", [None, 0, 12 * MIB, 1 << 63], ids=str)
def test_no_line_is_too_long(waiting: tuple[str, str] | None, total: int | None) -> None:
    for done in (0, 1, 6 * MIB, 1 << 62):
        state = State("Decoding " + "x" * 20, done, total, 1_000_000, 12345678.9, waiting)
        for columns in range(81):
            assert len(bar_line(state, columns)) <= columns


def test_what_is_waited_for_is_said_in_full_where_there_is_room() -> None:
    state = State("Encoding notes", 6 * MIB, 12 * MIB, waiting=WAITING)
    assert bar_line(state, 79) == f"Encoding notes   50 %  {WAITING[0]}"
    assert bar_line(state, 60) == f" 50 %  {WAITING[0]}"
    assert bar_line(state, 39) == f" 50 %  {WAITING[1]}"
    assert bar_line(state, 19) == " 50 %  wait: attic…"


def test_without_a_total_it_is_told_how_much_there_was() -> None:
    assert bar_line(State("Exporting", 6 * MIB), 40) == "Exporting  6.0 MiB"
    assert plain_line(State("Exporting", 6 * MIB)) == "Exporting, 6.0 MiB"
    text = "Encoding notes, 50 %, 6.0 MiB of 12.0 MiB, 214 files, 2.0 MiB/s"
    assert plain_line(HALF) == text


def test_what_a_hostile_urn_stands_for_has_a_text_too() -> None:
    state = State("Decoding x", 1, 512**255)
    assert "over 16 EiB" in plain_line(state)
    assert bar_line(State("Decoding x", 512**255), 40) == "Decoding x  over 16 EiB"


def test_the_pace_is_that_of_the_last_seconds() -> None:
    pace = Pace()
    assert pace.note(0.0, 0) is None
    assert pace.note(0.5, 100) is None
    assert pace.note(2.0, 200) == 100
    for second in range(3, 60):
        rate = pace.note(float(second), 200 + 10 * second)
    assert rate == pytest.approx(10)


# --- on a terminal --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running_daemon() as running:
        yield running


@pytest.fixture(scope="module")
def kapla(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Kapla:
    home = tmp_path_factory.mktemp("home")
    (home / "file").write_bytes(random.Random(5).randbytes(32 * MIB))
    return Kapla(home, daemon.url)


def on_a_terminal(
    kapla: Kapla,
    columns: int,
    *arguments: str,
    seen: Callable[[str], None] = lambda text: None,
) -> str:
    """All that is shown on a terminal of so many columns; `seen` gets what is there so far."""
    own, other = os.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        kapla.command(*arguments),
        env={**kapla.environment(), "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=other,
        cwd=kapla.home,
    )
    os.close(other)
    shown, end = "", time.monotonic() + 3 * GUARD_S
    try:
        while time.monotonic() < end:
            if not select.select([own], [], [], GUARD_S)[0]:
                break
            try:
                data = os.read(own, 65536)
            except OSError:  # at its end a terminal gives an error
                break
            shown += data.decode("utf-8", "replace")
            seen(shown)
        assert process.wait(GUARD_S) == 0
    finally:
        process.kill()
        process.wait()
        os.close(own)
    return shown


def drawn(shown: str) -> list[str]:
    """The lines of progress, without what takes the rest of a line away."""
    parts = shown.replace("\x1b[K", "").replace("\n", "\r").split("\r")
    return [part for part in parts if part and not part.startswith("kapla: ")]


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_it_fits(kapla: Kapla, columns: int) -> None:
    shown = on_a_terminal(kapla, columns, "encode", "--unique", "--no-catalogue", "file")
    lines = drawn(shown)
    assert lines
    assert all(len(line) < columns for line in lines)
    percents = [int(found[1]) for line in lines if (found := re.search(r"(\d+) %", line))]
    assert len(percents) == len(lines)
    assert percents == sorted(percents)
    # It is gone before the summary is said.
    assert "\r\x1b[Kkapla: encoded 32.0 MiB in " in shown


def test_a_store_that_is_silent_is_named_and_only_what_it_has_counts(
    kapla: Kapla, daemon: Daemon
) -> None:
    """The daemon is stopped as soon as something is shown, and goes on once it is waited for."""
    stopped: list[int] = []

    def look(shown: str) -> None:
        if not stopped and " %" in shown:
            stopped.append(len(shown))
            os.kill(daemon.pid, signal.SIGSTOP)
        elif "under way" in shown:
            os.kill(daemon.pid, signal.SIGCONT)

    try:
        shown = on_a_terminal(kapla, 80, "encode", "--unique", "--no-catalogue", "file", seen=look)
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
    waits = [line for line in drawn(shown) if "waiting for the store: " in line]
    assert waits
    assert re.search(r"waiting for the store: [\d,]+ blocks? under way$", waits[0])
    # All of the file would have been read by now.
    assert "100 %" not in waits[0]


def test_nothing_is_shown_where_nobody_looks_unless_it_is_asked_for(kapla: Kapla) -> None:
    # `Kapla` itself sees to it that nothing is said where there is no terminal.
    kapla("encode", "--unique", "--no-catalogue", "file")
    done = subprocess.run(
        kapla.command("encode", "--progress", "--unique", "--no-catalogue", "file"),
        env=kapla.environment(),
        capture_output=True,
        check=True,
        timeout=GUARD_S,
        cwd=kapla.home,
    )
    assert done.stderr.decode().splitlines()[-1].startswith("kapla: encoded 32.0 MiB in ")
    shown = on_a_terminal(kapla, 80, "encode", "--no-progress", "--no-catalogue", "file")
    assert not drawn(shown)
    assert "kapla: encoded 32.0 MiB in " in shown
