"""What `kapla encode` leaves out, and what it says of what it cannot take."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from eris_fs.errors import TreeError
from kapla.cli.common import CommandError
from kapla.cli.encode import command
from kapla.cli.main import exit_code
from tests.eris_fs.trees import File, lay_out

Encode = Callable[..., str]


@pytest.fixture
def encode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Encode:
    """Encode something in an empty directory; gives the URN."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        command.main([*arguments], standalone_mode=False)
        return capsys.readouterr().out

    return run


@pytest.fixture
def home(tmp_path: Path) -> Path:
    lay_out({"docs": {"a": File(b"a")}, "b": File(b"b")}, tmp_path / "home")
    return tmp_path / "home"


def failing(*arguments: str, code: int) -> str:
    """What is said of a command that fails."""
    known = (CommandError, click.UsageError, OSError, TreeError)
    with pytest.raises(known) as caught:
        command.main([*arguments], standalone_mode=False)
    assert exit_code(caught.value) == code
    return str(caught.value)


def test_a_pattern_of_the_command_line_has_the_last_word(
    encode: Encode, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "patterns").write_text("!b\n")
    more = ["--exclude-from", "patterns", "--exclude", "*", "--no-store"]
    nothing = encode("--exclude", "*", "--no-store", "home")
    assert encode(*more, "home") == nothing
    assert encode(*more, "--exclude", "!/b", "home") != nothing


@pytest.mark.parametrize("packed", [False, True])
def test_a_refusal_names_the_entry_and_the_way_out(
    encode: Encode, tmp_path: Path, packed: bool
) -> None:
    how = ["--packed", "--no-store"] if packed else ["--no-store"]
    (tmp_path / "l").mkdir()
    os.close(os.open(os.fsencode(tmp_path) + b"/l/caf\xe9", os.O_CREAT))
    if packed:
        encode(*how, "l")
    else:
        assert failing(*how, "l", code=7) == (
            "cannot encode l/caf\\xe9: its name is not UTF-8; --packed can hold it,"
            " --exclude leaves it out"
        )
    encode(*how, "--exclude", "caf?", "l")
    os.mkfifo(tmp_path / "l" / "a pipe")
    assert failing(*how, "l", code=7) == (
        "cannot encode l/a pipe: it is a named pipe; --exclude leaves it out"
    )


def test_the_top_itself_cannot_be_left_out(encode: Encode, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    error = failing("--packed", "--no-store", "pipe", code=7)
    assert error == f"cannot encode {tmp_path}/pipe: it is a named pipe"


@pytest.mark.parametrize("pattern", ["[", "a//b", ".", "x\\", ""])
def test_a_pattern_that_is_none(encode: Encode, home: Path, tmp_path: Path, pattern: str) -> None:
    assert "pattern" in failing("--exclude", pattern, "home", code=2)
    if pattern:
        (tmp_path / "patterns").write_text(f"a\n{pattern}\n")
        error = failing("--exclude-from", "patterns", "home", code=2)
        assert error.startswith("patterns, line 2: the pattern ")


def test_a_path_of_the_system_is_no_pattern(encode: Encode, home: Path, tmp_path: Path) -> None:
    (tmp_path / "patterns").write_text(f"{home}/docs/\n")
    for given in (("--exclude", f"{home}/docs/"), ("--exclude-from", "patterns")):
        error = failing(*given, "home", code=2)
        assert error == (
            f"--exclude: patterns begin at the top of the tree: not {home}/docs/, but /docs/"
        )


@pytest.mark.parametrize("path", ["home/b", "-"])
def test_only_a_directory_has_what_can_be_left_out(encode: Encode, home: Path, path: str) -> None:
    assert "are for directories" in failing("--exclude", "x", path, code=2)


def test_a_file_of_patterns_that_is_not_there_or_too_long(
    encode: Encode, home: Path, tmp_path: Path
) -> None:
    assert "No such file" in failing("--exclude-from", "nowhere", "home", code=7)
    (tmp_path / "long").write_bytes(b"#" * (1024 * 1024 + 1))
    error = failing("--exclude-from", "long", "home", code=2)
    assert error == "long has more than 1 MiB of patterns"
    (tmp_path / "many").write_bytes(b"a\n" * 10_001)
    error = failing("--exclude-from", "many", "home", code=2)
    assert error == "--exclude-from: more than 10,000 patterns"
    assert "no such" in failing("--exclude", "x", "missing", code=7).lower()
