"""Signals, pipes that end or stand still, and terminals."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import random
import re
import select
import signal
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from eris import ReadCapability
from tests.eris_fs.trees import File, lay_out, read_back
from tests.integration.commands import Kapla, stalling_store
from tests.integration.daemon import GUARD_S, Daemon, running_daemon, wait_until

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
every_signal = pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)

LARGE = random.Random(1).randbytes(4 << 20)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running_daemon() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def kapla(daemon: Daemon, home: Path) -> Kapla:
    return Kapla(home, daemon.url)


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory with a short name, for sockets."""
    with tempfile.TemporaryDirectory(prefix="kapla-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def large(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URN of a file of 4 MiB."""
    return Kapla(tmp_path_factory.mktemp("made"), daemon.url).out("encode", "-", stdin=LARGE)


@pytest.fixture(scope="module")
def tree(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URN of a tree of 4 MiB."""
    root = tmp_path_factory.mktemp("made")
    source = random.Random(2)
    lay_out({str(n): File(source.randbytes(20_000)) for n in range(200)}, root / "tree")
    return Kapla(root, daemon.url).out("encode", root / "tree")


# --- interrupted ------------------------------------------------------------------------------


@every_signal
@pytest.mark.parametrize("kind", ["file", "tree"])
def test_an_interrupted_decode_leaves_nothing(
    kapla: Kapla,
    daemon: Daemon,
    home: Path,
    short: Path,
    large: str,
    tree: str,
    kind: str,
    number: signal.Signals,
) -> None:
    urn = large if kind == "file" else tree
    with (
        stalling_store(short / "s", daemon.socket, 2 << 20) as store,
        kapla.running("decode", "--store-url", store.url, urn, "out") as process,
    ):
        assert store.stalled.wait(GUARD_S)
        # Something has been begun, under a name of its own.
        wait_until(lambda: bool(os.listdir(home)), "a beginning")
        assert "out" not in os.listdir(home)
        kapla.interrupt(process, number)
    assert os.listdir(home) == []


@pytest.mark.parametrize("old", ["file", "directory"])
def test_an_interrupted_replacement_keeps_the_old(
    kapla: Kapla, daemon: Daemon, home: Path, short: Path, tree: str, old: str
) -> None:
    lay_out(File(b"old") if old == "file" else {"old": File(b"old")}, home / "out")
    before = read_back(home)
    with (
        stalling_store(short / "s", daemon.socket, 2 << 20) as store,
        kapla.running("decode", "--force", "--store-url", store.url, tree, "out") as process,
    ):
        assert store.stalled.wait(GUARD_S)
        wait_until(lambda: len(os.listdir(home)) > 1, "a beginning")
        kapla.interrupt(process, signal.SIGINT)
    assert read_back(home) == before


@pytest.mark.parametrize("kind", ["file", "tree", "-"])
def test_an_interrupted_encode_prints_nothing(
    kapla: Kapla, daemon: Daemon, home: Path, short: Path, kind: str
) -> None:
    (home / "file").write_bytes(LARGE)
    source = random.Random(3)
    lay_out({str(n): File(source.randbytes(50_000)) for n in range(60)}, home / "tree")
    with (
        open(home / "file", "rb") as content,
        # Our greeting, and then some answers of two bytes each and their tokens.
        stalling_store(short / "s", daemon.socket, 200) as store,
        kapla.running("encode", "--store-url", store.url, kind, stdin=content.fileno()) as process,
    ):
        assert store.stalled.wait(GUARD_S)
        kapla.interrupt(process, signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.read() == b""


@pytest.mark.parametrize("command", ["verify", "info", "stat", "ls"])
def test_a_store_that_never_answers_can_be_left(
    kapla: Kapla, daemon: Daemon, short: Path, large: str, command: str
) -> None:
    urn = [] if command == "stat" else [large]
    # Not even the greeting is passed on whole.
    with (
        stalling_store(short / "s", daemon.socket, 3) as store,
        kapla.running(command, "--store-url", store.url, *urn) as process,
    ):
        assert store.stalled.wait(GUARD_S)
        kapla.interrupt(process, signal.SIGINT)


def wait_for_handlers(process: subprocess.Popen[bytes]) -> None:
    """Until the command has said what it does with SIGHUP: then it is at work."""

    def catches() -> bool:
        status = Path(f"/proc/{process.pid}/status").read_text()
        [caught] = [line for line in status.splitlines() if line.startswith("SigCgt:")]
        return bool(int(caught.split()[1], 16) & (1 << (signal.SIGHUP - 1)))

    wait_until(catches, "signal handlers")


@every_signal
@pytest.mark.parametrize("begun", [b"", b"something"], ids=["silent", "begun"])
def test_waiting_for_standard_input_can_be_interrupted(
    kapla: Kapla, begun: bytes, number: signal.Signals
) -> None:
    with kapla.running("encode", "--no-store", "-", stdin=subprocess.PIPE) as process:
        wait_for_handlers(process)
        assert process.stdin is not None
        process.stdin.write(begun)
        process.stdin.flush()
        kapla.interrupt(process, number)


def test_waiting_for_a_fifo_can_be_interrupted(kapla: Kapla, home: Path) -> None:
    os.mkfifo(home / "fifo")
    with kapla.running("encode", "--no-store", "fifo") as process:
        wait_for_handlers(process)
        kapla.interrupt(process, signal.SIGINT)


@every_signal
def test_a_pipe_that_nobody_reads_can_be_left(
    kapla: Kapla, large: str, number: signal.Signals
) -> None:
    with kapla.running("decode", large, "-") as process:
        assert process.stdout is not None
        # Full, and so the command is stuck in the middle of a write, or about to be.
        pipe = process.stdout.fileno()
        capacity = fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
        wait_until(lambda: bytes_in(pipe) > capacity - select.PIPE_BUF, "a full pipe")
        kapla.interrupt(process, number)


def bytes_in(pipe: int) -> int:
    """How much has been written into a pipe and not been read."""
    answer = fcntl.ioctl(pipe, termios.FIONREAD, bytes(4))
    return int.from_bytes(answer, sys.byteorder)


def test_interrupted_while_the_urn_is_awaited(kapla: Kapla) -> None:
    with kapla.running("info", "-", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        pipe = process.stdin.fileno()
        os.write(pipe, b"urn:eris:")
        wait_until(lambda: bytes_in(pipe) == 0, "the command to read")
        process.send_signal(signal.SIGINT)
        assert process.wait(GUARD_S) == 130
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()


# --- pipes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["decode", "cat", "ls"])
def test_a_reader_that_has_enough(
    kapla: Kapla, home: Path, large: str, tree: str, command: str
) -> None:
    arguments = {"decode": [large, "-"], "cat": [tree, "7"], "ls": ["--json", tree]}[command]
    with kapla.running(command, *arguments) as process:
        assert process.stdout is not None and process.stderr is not None
        if command == "decode":
            assert process.stdout.read(1) == LARGE[:1]
        process.stdout.close()
        assert process.wait(GUARD_S) == 1
        assert process.stderr.read() == b""
        process.stdout = None


def test_a_pipe_on_both_sides(kapla: Kapla, home: Path) -> None:
    lay_out({str(n): File(LARGE[n * 1000 : n * 1100]) for n in range(20)}, home / "tree")
    environment = kapla.environment()
    packed = subprocess.run(
        ["tar", "c", "-C", "tree", "."], cwd=home, capture_output=True, check=True
    ).stdout
    urn = kapla.out("encode", "-", stdin=packed)
    (home / "copy").mkdir()
    with kapla.running("decode", urn, "-") as process:
        subprocess.run(
            ["tar", "x", "-C", "copy"], cwd=home, stdin=process.stdout, env=environment, check=True
        )
    assert read_back(home / "copy") == read_back(home / "tree")


def run_shell(kapla: Kapla, script: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["sh", "-c", script, *kapla.command()],
        env=kapla.environment(),
        cwd=kapla.home,
        capture_output=True,
        check=False,
        timeout=GUARD_S,
    )


@pytest.mark.parametrize(
    "arguments", ["encode --no-store file", "decode {} -", "info {}", "--help"]
)
def test_output_to_a_full_disk(kapla: Kapla, home: Path, large: str, arguments: str) -> None:
    (home / "file").write_bytes(b"x")
    done = run_shell(kapla, f'exec "$0" {arguments.format(large)} > /dev/full')
    assert done.returncode in (1, 7)
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    if done.returncode == 7:
        assert done.stderr == b"kapla: standard output: the disk is full\n"


def test_without_any_output(kapla: Kapla, home: Path) -> None:
    (home / "file").write_bytes(b"x")
    done = run_shell(kapla, 'exec "$0" encode --no-store file >&-')
    assert (done.returncode, done.stderr) == (7, b"kapla: standard output is closed\n")


# --- terminals --------------------------------------------------------------------------------


def on_a_terminal(kapla: Kapla, *arguments: str | Path, code: int = 0) -> tuple[bytes, str]:
    """Run a command whose stderr is a terminal; returns stdout and what the terminal showed."""
    main, secondary = pty.openpty()
    try:
        process = subprocess.Popen(
            kapla.command(*arguments),
            env={"TERM": "xterm-256color", **kapla.environment()},
            cwd=kapla.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=secondary,
        )
        os.close(secondary)
        shown = b""
        while select.select([main], [], [], GUARD_S)[0]:
            try:
                data = os.read(main, 1 << 16)
            except OSError as error:
                assert error.errno == errno.EIO
                break
            if not data:
                break
            shown += data
        out, _ = process.communicate(timeout=GUARD_S)
        assert process.returncode == code, shown
    finally:
        os.close(main)
    return out, shown.decode()


COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-7]|9[0-7]|38;[25];[0-9;]+)m")


@pytest.mark.parametrize("command", ["encode", "encode tree", "decode", "decode tree", "verify"])
def test_progress_on_a_terminal(
    kapla: Kapla, home: Path, large: str, tree: str, command: str
) -> None:
    (home / "file").write_bytes(LARGE)
    lay_out({str(n): File(LARGE[n : n + 9999]) for n in range(20)}, home / "tree")
    arguments: dict[str, list[str]] = {
        "encode": ["encode", "file"],
        "encode tree": ["encode", "tree"],
        "decode": ["decode", large, "out"],
        "decode tree": ["decode", tree, "out"],
        "verify": ["verify", large],
    }
    out, shown = on_a_terminal(kapla, *arguments[command])
    assert {"e": "Encoding", "d": "Decoding", "v": "Verifying"}[command[0]] in shown
    assert "Traceback" not in shown
    assert large not in shown and tree not in shown
    if command.startswith("encode"):
        # The result is on standard output, alone.
        ReadCapability.from_urn(out.decode().strip())


def test_no_color(kapla: Kapla, home: Path) -> None:
    (home / "file").write_bytes(LARGE)
    _, shown = on_a_terminal(kapla, "encode", "file")
    assert "Encoding" in shown
    assert not COLOUR.search(shown)


@pytest.mark.parametrize(
    "name", ["a[/b]", "[red]x", "[", "\x1b[2Jx", "{task.total}", "a\nb"], ids=ascii
)
def test_names_are_no_markup(kapla: Kapla, home: Path, name: str) -> None:
    (home / name).parent.mkdir(exist_ok=True)
    (home / name).write_bytes(b"x" * 100_000)
    out, shown = on_a_terminal(kapla, "encode", "--no-store", name)
    ReadCapability.from_urn(out.decode().strip())
    assert "Traceback" not in shown
    assert "\x1b[2Jx" not in shown


def test_an_error_on_a_terminal_is_one_line(kapla: Kapla) -> None:
    out, shown = on_a_terminal(kapla, "encode", "missing", code=7)
    assert (out, shown) == (b"", "kapla: missing: No such file or directory\r\n")


def test_json_is_for_programs_even_on_a_terminal(kapla: Kapla) -> None:
    out, shown = on_a_terminal(kapla, "stat", "--json")
    assert shown == ""
    json.loads(out)
