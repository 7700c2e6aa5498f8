"""Exit codes and the one line: every error the libraries have is somebody's move."""

from __future__ import annotations

import errno
import grp
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from eris import (
    BlockNotFound,
    BlockSize,
    CorruptBlock,
    InvalidCapability,
    StoreRefused,
    StoreUnavailable,
)
from eris.errors import ErisError
from eris_fs.errors import TreeError
from kapla.amounts import bytes_text, duration_text
from kapla.cli import stat as stat_module
from kapla.cli.common import (
    CommandError,
    Interrupted,
    read_capability,
    standard_input,
    standard_output,
)
from kapla.cli.exit_codes import EXIT_CODES, all_meanings, exit_code, meanings
from kapla.cli.main import _line
from kapla.cli.stat import _lines
from kapla.errors import CannotConnect, ConfigError, InvalidUrl


def every_kind(base: type[BaseException]) -> set[type[BaseException]]:
    return {base}.union(*(every_kind(kind) for kind in base.__subclasses__()))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidCapability("x"), 2),
        (InvalidUrl("x"), 2),
        (ConfigError("x"), 2),
        (StoreUnavailable("x"), 3),
        (BlockNotFound(b"r" * 32), 4),
        (CorruptBlock(b"r" * 32), 5),
        (StoreRefused("x"), 6),
        (FileNotFoundError(errno.ENOENT, "x"), 7),
        (Interrupted(), 130),
        (KeyboardInterrupt(), 130),
        (CommandError("x"), 1),
        (CommandError("x", 5), 5),
        (RuntimeError("x"), 1),
    ],
)
def test_exit_codes(error: BaseException, code: int) -> None:
    assert exit_code(error) == code


def test_every_error_of_the_libraries_has_a_code() -> None:
    covered = tuple(kind for _, _, kinds in EXIT_CODES for kind in kinds)
    homeless = {
        kind.__name__
        for kind in every_kind(ErisError)
        if not issubclass(kind, covered) and not hasattr(kind, "exit_code")
    }
    # The bases of the families are never raised themselves.
    assert homeless <= {"ErisError", "StoreError"}, homeless
    assert issubclass(TreeError, covered)


def test_codes_are_told_once_each() -> None:
    codes = [code for code, _, _ in EXIT_CODES]
    assert codes == sorted(set(codes))
    assert {0, 1}.isdisjoint(codes)
    told = all_meanings()
    assert [code for code, _ in told] == [0, 1, *codes]
    assert [code for code, _ in meanings([4])] == [0, 1, 2, 4, 7, 130]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file", "a"), "a: No such file"),
        (OSError(errno.ENOSPC, "No space left", "a"), "a: the disk is full"),
        (OSError(errno.EIO, "broken", b"b\xff"), "b\udcff: broken"),
        (OSError(errno.EIO, "broken", 5), "broken"),
        (OSError(errno.EIO, "broken"), "broken"),
        (OSError("unusual"), "unusual"),
        (KeyboardInterrupt(), "interrupted"),
        (Interrupted(), "interrupted"),
        (StoreRefused(""), "StoreRefused"),
        (StoreUnavailable("gone"), "gone"),
    ],
)
def test_the_line(error: BaseException, line: str) -> None:
    assert _line(error) == line


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOENT, "; is one running? Start a daemon with: kaplad"),
        (errno.ECONNREFUSED, "; is one running? Start a daemon with: kaplad"),
        (errno.EACCES, "; its socket is for its owner and group only"),
        (errno.ENOTDIR, "; a store path behind a socket wants the socket's own slashes as %2F"),
    ],
)
def test_advice_for_those_who_reach_no_daemon(number: int, advice: str) -> None:
    error = CannotConnect("Unix socket /a", "no", number=number, socket=Path("/nonexistent/a"))
    assert _line(error) == f"cannot connect to Unix socket /a: no{advice}"


def test_the_group_of_a_closed_socket_is_named(tmp_path: Path) -> None:
    group = grp.getgrgid(tmp_path.stat().st_gid).gr_name
    error = CannotConnect("Unix socket", "no", number=errno.EACCES, socket=tmp_path)
    assert _line(error).endswith(f"; its socket is for its owner and the group {group}")


def test_a_file_given_for_its_urn_is_pointed_at(tmp_path: Path) -> None:
    file = tmp_path / "x.urn"
    file.write_text("")
    with pytest.raises(CommandError, match="to read one from it: @") as caught:
        read_capability(str(file))
    assert caught.value.exit_code == 2
    with pytest.raises(CommandError, match="is empty"):
        read_capability(f"@{file}")


def test_a_file_that_is_no_urn_is_not_read_to_its_end() -> None:
    with pytest.raises(InvalidCapability):
        read_capability("@/dev/zero")


def test_a_urn_is_read_as_it_stands() -> None:
    urn = "urn:eris:" + "BI" + "A" * 104
    assert read_capability(urn).block_size in BlockSize
    assert read_capability(f" {urn}\n") == read_capability(urn)


def test_closed_standard_streams_are_an_error_of_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "stdout", None)
    for use in (standard_input, standard_output, lambda: read_capability("-")):
        with pytest.raises(CommandError, match="is closed") as caught:
            use()
        assert exit_code(caught.value) == 7


# --- stat -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1,023 B"),
        (1024, "1.0 KiB"),
        (5 << 30, "5.0 GiB"),
        (9 << 50, "9,216.0 TiB"),
    ],
)
def test_bytes(count: int, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "0 s"), (61, "1 min 1 s"), (3600, "1 h"), (90061, "1 d 1 h")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    "report",
    [{}, {"blocks": []}, {"blocks": {"x": 1}, "bytes": {}}, {"blocks": {"1024": "many"}}],
)
def test_a_report_of_another_program_is_an_error_of_its_kind(report: dict[str, object]) -> None:
    with pytest.raises((AttributeError, KeyError, TypeError, ValueError)):
        _lines(report)


REPORT: dict[str, Any] = {
    "blocks": {"1024": 1},
    "bytes": {"1024": 1024},
    "database_bytes": 1,
    "new_blocks": 1,
    "uptime_s": 1,
    "requests": {"get": 1},
    "connections": {"now": 1},
}


def run_stat(monkeypatch: pytest.MonkeyPatch, report: dict[str, Any], *, as_json: bool) -> None:
    def answer(asking: Any) -> dict[str, Any]:
        asking.close()
        return report

    monkeypatch.setattr(stat_module, "run", answer)
    callback = stat_module.command.callback
    assert callback is not None
    callback(as_json=as_json, store_url=None)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_hostile_report_does_not_command_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    report = REPORT | {"requests": {"\x1b]0;owned\x07\x7f\x9b\n": 1}}
    run_stat(monkeypatch, report, as_json=as_json)
    shown = capsys.readouterr().out
    assert "owned" in shown
    assert all(line.isprintable() for line in shown.split("\n"))
    if as_json:
        assert json.loads(shown) == report
    else:
        assert shown.count("\n") == len(_lines(REPORT))


@pytest.mark.parametrize(
    "nonsense",
    [
        {"uptime_s": float("inf")},
        {"uptime_s": float("nan")},
        {"uptime_s": "\x1b[2J"},
        {"database_bytes": "\x1b[2J"},
        {"new_blocks": "\x1b[2J"},
        {"blocks": {"\x1b[2J": 1}},
        {"requests": {"get": "\x1b[2J"}},
    ],
)
def test_a_report_of_nonsense_is_one_line(
    monkeypatch: pytest.MonkeyPatch, nonsense: dict[str, Any]
) -> None:
    with pytest.raises(CommandError, match="none of a Kapla daemon") as caught:
        run_stat(monkeypatch, REPORT | nonsense, as_json=False)
    assert exit_code(caught.value) == 3


def test_no_json_that_others_cannot_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandError, match="JSON does not know") as caught:
        run_stat(monkeypatch, REPORT | {"uptime_s": float("inf")}, as_json=True)
    assert exit_code(caught.value) == 3
