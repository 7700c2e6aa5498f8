"""Commands from bytes, replies to bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guix_glue.fetch.dialogue import (
    Command,
    CommandReader,
    Have,
    Info,
    Substitute,
    Unreadable,
    format_available,
    format_details,
    format_mismatch,
    format_success,
)
from guix_glue.model import StoreItem

STORE = "/gnu/store"
APP = "/gnu/store/7xq3qwahlz7ci18sxrm0qhmzqmafag1f-app-1.2.3"
NOTES = "/gnu/store/zyrlmc7z8fi7842vdcy9agbbd13v6zyp-notes.txt"

COMMANDS = (
    f"have {APP} {NOTES} \ninfo {NOTES} \nsubstitute {APP} {APP}.tmp\nsubstitute {APP} /x y\n"
).encode()
READ: list[Command] = [
    Have((APP, NOTES)),
    Info((NOTES,)),
    Substitute(APP, f"{APP}.tmp"),
    Substitute(APP, "/x y"),
]


def read(*pieces: bytes, max_line: int = 1000) -> list[Command]:
    reader = CommandReader(STORE, max_line)
    return [command for piece in pieces for command in reader.feed(piece)]


def test_commands_as_the_daemon_writes_them() -> None:
    assert read(COMMANDS) == READ


def test_commands_byte_by_byte_and_with_more_behind() -> None:
    assert read(*(bytes([byte]) for byte in COMMANDS), b"have") == READ


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"HAVE x",
        b"\xff\xfe",
        b"substitute",
        f"substitute {APP}".encode(),
        f"substitute {APP} relative".encode(),
        f"substitute {APP} /a\0b".encode(),
        f"substitute /etc/passwd {APP}".encode(),
        b"substitute /gnu/store/../../etc/7xq3qwahlz7ci18sxrm0qhmzqmafag1f-app /x",
    ],
)
def test_what_is_no_command(line: bytes) -> None:
    (command,) = read(line + b"\n")
    assert isinstance(command, Unreadable)


def test_only_store_paths_are_asked_for() -> None:
    line = f"info /etc/passwd {APP} {APP} /gnu/store/x /gnu/stores/{APP[11:]} {APP}/bin\n"
    assert read(line.encode()) == [Info((APP,))]


def test_a_line_that_is_too_long_is_passed_over() -> None:
    assert read(b"have " + b"x" * 2000, b"y" * 2000 + b"\ninfo \n") == [
        Unreadable("a command is longer than 1000 bytes"),
        Info(()),
    ]


@given(st.lists(st.binary(max_size=40)))
def test_any_bytes_are_as_many_commands_as_lines(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    commands = read(*pieces)
    assert len(commands) == whole.count(b"\n")
    assert commands == read(whole)


def test_replies_as_stock_writes_them() -> None:
    item = StoreItem(
        APP,
        bytes(32),
        120336,
        (
            "7xq3qwahlz7ci18sxrm0qhmzqmafag1f-app-1.2.3",
            "zyrlmc7z8fi7842vdcy9agbbd13v6zyp-notes.txt",
        ),
        "9ph6fa9lwp06gwqg8vdx6avbfi0f8671-app-1.2.3.drv",
    )
    bare = StoreItem(NOTES, bytes(32), 128, ())
    assert format_available([APP, NOTES]) == f"{APP}\n{NOTES}\n\n".encode()
    assert (
        format_details([(item, 17), (bare, 0)])
        == (
            f"{APP}\n/gnu/store/9ph6fa9lwp06gwqg8vdx6avbfi0f8671-app-1.2.3.drv\n2\n{APP}\n{NOTES}\n"
            f"17\n120336\n{NOTES}\n\n0\n0\n128\n\n"
        ).encode()
    )
    assert format_available([]) == format_details([]) == b"\n"
    assert format_success(bytes(32), 7) == b"success sha256:" + b"0" * 52 + b" 7\n"
    assert format_mismatch(bytes(32), bytes(32)) == (
        b"hash-mismatch sha256 " + b"0" * 52 + b" " + b"0" * 52 + b"\n"
    )


@pytest.mark.parametrize("name", ["a\nb", "a b", "a\rb", "\x1b[K", "a\0", "é"])
def test_no_name_becomes_a_line_of_its_own(name: str) -> None:
    """What cannot be told is left out, and the others are told."""
    plain = StoreItem(APP, bytes(32), 1, ())
    told = format_details([(plain, 0)])
    assert format_available([f"/gnu/store/{name}", APP]) == f"{APP}\n\n".encode()
    for odd in (StoreItem(APP, bytes(32), 1, (name,)), StoreItem(APP, bytes(32), 1, (), name)):
        assert format_details([(odd, 0), (plain, 0)]) == told
