"""Logs that are written beside the work: to real files, also to such as take nothing."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from guix_glue.errors import PublishError
from guix_glue.serving.journal import Journal, escaped
from guix_glue.serving.request_log import Exchange
from tests.guix_glue.publish.support import wait_until

URN = "urn:eris:" + "A" * 20
_LOST = re.compile(r"(\d+) lines were lost")


@dataclass
class Line:
    """An entry."""

    number: int = 0
    what: str = "x"

    def facts(self) -> Mapping[str, object]:
        return {"number": self.number, "what": self.what}

    def text(self) -> str:
        return f"{self.number} {self.what}"


@contextmanager
def journal(target: Path | str, *, as_json: bool = False) -> Iterator[Journal]:
    one = Journal(str(target), as_json=as_json, redact=lambda line: line.replace(URN, "urn:…"))
    try:
        yield one
    finally:
        one.close()


def numbers(path: Path) -> list[int]:
    return [int(line.split()[0]) for line in path.read_text().splitlines()]


def test_lines_are_appended_in_order(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    with journal(path) as one:
        for number in range(3000):
            one.note(Line(number))
    assert path.read_text() == "before\n" + "".join(f"{n} x\n" for n in range(3000))


def test_json_is_an_object_a_line(tmp_path: Path) -> None:
    with journal(tmp_path / "log", as_json=True) as one:
        one.note(Line(1, 'a\nb\udcff"é'))
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert json.loads(line) == {"number": 1, "what": 'a\nb\udcff"é'}


@pytest.mark.parametrize("as_json", [True, False])
def test_what_nobody_may_read_is_left_out(tmp_path: Path, *, as_json: bool) -> None:
    with journal(tmp_path / "log", as_json=as_json) as one:
        one.note(Line(1, f"/{URN}"))
    assert "AAAA" not in (tmp_path / "log").read_text()


def test_others_may_not_read_a_new_log(tmp_path: Path) -> None:
    with journal(tmp_path / "log"):
        assert (tmp_path / "log").stat().st_mode & 0o007 == 0


def test_it_goes_on_in_a_new_file_after_it_was_moved(tmp_path: Path) -> None:
    path, moved = tmp_path / "log", tmp_path / "log.1"
    with journal(path) as one:
        one.note(Line(1))
        wait_until(lambda: path.read_text() != "", "the first line")
        path.rename(moved)
        one.note(Line(2))
        wait_until(lambda: numbers(moved) == [1, 2], "the second line")
        one.reopen()
        wait_until(path.exists, "the new file")
        one.note(Line(3))
    assert (numbers(moved), numbers(path)) == ([1, 2], [3])


def test_it_goes_on_in_the_old_file_if_there_can_be_no_new_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory, moved = tmp_path / "logs", tmp_path / "moved"
    directory.mkdir()
    with journal(directory / "log") as one:
        directory.rename(moved)
        one.reopen()
        one.note(Line(1))
    assert numbers(moved / "log") == [1]
    assert "No such file" in caplog.text


def test_a_full_disk_costs_lines_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    with journal("/dev/full") as one:
        for number in range(2000):
            one.note(Line(number))
    (record,) = caplog.records
    assert record.getMessage() == "Cannot write to /dev/full: No space left on device"


def test_whoever_reads_too_slowly_keeps_nobody_waiting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    # Something must read when it is opened.
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    one = Journal(str(path), as_json=False, redact=str)
    # Far more than the pipe and the queue hold; this returns nevertheless.
    for number in range(30_000):
        one.note(Line(number, "x" * 50))
    received = bytearray()
    os.set_blocking(reader, True)

    def read() -> None:
        while piece := os.read(reader, 1 << 16):
            received.extend(piece)

    reading = threading.Thread(target=read)
    reading.start()
    one.close()
    reading.join()
    os.close(reader)
    got = [int(line.split()[0]) for line in received.decode().splitlines()]
    assert got == sorted(got)
    # One record, or more where the writer came to the queue again while it was
    # still being filled: what they say must add up.
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    lost = [
        int(told[1])
        for record in caplog.records
        if (told := _LOST.fullmatch(record.getMessage().removeprefix(f"{path}: ")))
    ]
    assert len(lost) == len(caplog.records)
    assert sum(lost) == 30_000 - len(got)


@pytest.mark.parametrize("kind", ["directory", "missing", "pipe"])
def test_what_cannot_be_written_to(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "log"
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path = path / "log"
    with pytest.raises(PublishError, match="cannot write to"):
        Journal(str(path), as_json=False, redact=str)


def test_strangers_cannot_write_lines_of_their_own() -> None:
    evil = 'a"\n\x1b[31m\\é\udcff' + "x" * 5000
    exchange = Exchange("::1", "G\nT", evil, agent=evil)
    exchange.end()
    line = exchange.text()
    assert line.isascii()
    assert line.isprintable()
    assert line.count('"') == 6
    assert len(line) < 2000
    assert escaped(evil, 10) == r"a\x22\x0a\x1b[31m\x5c\xc3\xa9"
    assert len(json.dumps(exchange.facts())) < 4000
