"""Log lines: their form, and what never stands in them."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from eris import BlockSize, ReadCapability
from eris.model import Key, Reference, ReferenceKeyPair
from kapla import log

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \((DEBUG|INFO|WARNING|ERROR)\): (.*)\n")
CAPABILITY = ReadCapability(
    BlockSize.SMALL, 0, ReferenceKeyPair(Reference(b"r" * 32), Key(b"k" * 32))
)


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info")
    logging.getLogger("kapla.daemon").info("Listening on %s", "Unix socket /a")
    captured = capsys.readouterr()
    assert captured.out == ""
    match = LINE.fullmatch(captured.err)
    assert match is not None
    assert match.groups() == ("INFO", "Listening on Unix socket /a")


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("debug", "DEBUG INFO WARNING ERROR"),
        ("info", "INFO WARNING ERROR"),
        ("warning", "WARNING ERROR"),
        ("error", "ERROR"),
    ],
)
def test_levels(capsys: pytest.CaptureFixture[str], level: str, shown: str) -> None:
    log.configure(level)
    for name in ("debug", "info", "warning", "error"):
        getattr(logging.getLogger("kapla"), name)("x")
    assert " ".join(match[1] for match in LINE.finditer(capsys.readouterr().err)) == shown


def test_what_others_do_to_connections_is_no_event(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("debug")
    asyncio_log = logging.getLogger("asyncio")
    # The texts are those of asyncio.
    for text in ("socket.send() raised exception.", "SSL connection is closed", "something else"):
        asyncio_log.warning(text)
    assert [match[2] for match in LINE.finditer(capsys.readouterr().err)] == ["something else"]


def test_configuring_again_replaces(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info")
    log.configure("debug")
    logging.getLogger("kapla").debug("once")
    assert capsys.readouterr().err.count("once") == 1


@pytest.mark.parametrize("name", ["asyncio", "coap", "coap-server", "sqlalchemy.engine"])
def test_libraries_speak_only_of_trouble(capsys: pytest.CaptureFixture[str], name: str) -> None:
    log.configure("debug")
    logging.getLogger(name).info("chatter")
    logging.getLogger(name).warning("trouble")
    err = capsys.readouterr().err
    assert "trouble" in err
    assert "chatter" not in err


def test_a_urn_never_reaches_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("debug")
    urn = CAPABILITY.to_urn()
    try:
        open(f"/nowhere/{urn}").close()
    except OSError:
        logging.getLogger("kapla").exception("Failed with %s and %s", urn, urn.lower())
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "urn:eris:…" in err
    assert urn[9:] not in err.upper()


# --- other forms ------------------------------------------------------------------------------


def test_an_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "json")
    before = datetime.now(UTC)
    urn = CAPABILITY.to_urn()
    try:
        raise OSError(f"no {urn}\nat all")
    except OSError:
        logging.getLogger("kapla.x").exception("Failed with %s", urn)
    logging.getLogger("kapla.y").warning("é\n2")
    logging.getLogger("kapla.y").debug("hidden")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["time"])
    assert abs(datetime.fromisoformat(first["time"]) - before) < timedelta(minutes=5)
    assert (first["level"], first["logger"]) == ("error", "kapla.x")
    assert first["message"] == "Failed with urn:eris:…"
    assert first["exception"].startswith("Traceback")
    assert first["exception"].endswith("OSError: no urn:eris:…\nat all")
    assert second | {"time": ""} == {
        "time": "",
        "level": "warning",
        "logger": "kapla.y",
        "message": "é\n2",
    }


Begin = Callable[[str, log.Format], Callable[[], str]]


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:
    """Begins to log to what the journal reads; what it has read."""
    with (tmp_path / "journal").open("w+") as file:
        status = os.fstat(file.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")

        def begin(level: str, form: log.Format) -> Callable[[], str]:
            # In the test itself: pytest has another one for each of its phases.
            monkeypatch.setattr(sys, "stderr", file)
            log.configure(level, form)
            return (tmp_path / "journal").read_text

        yield begin


def test_the_journal_notes_time_and_level_itself(
    journal: Begin,
) -> None:
    read = journal("debug", "text")
    logger = logging.getLogger("kapla")
    for name in ("debug", "info", "warning", "error", "critical"):
        getattr(logger, name)("it is %s", name)
    # Each line is an entry of its own, and has its level.
    logger.error("Failed", exc_info=ValueError("two\nlines"))
    assert read().splitlines() == [
        "<7>it is debug",
        "<6>it is info",
        "<4>it is warning",
        "<3>it is error",
        "<2>it is critical",
        "<3>Failed",
        "<3>ValueError: two",
        "<3>lines",
    ]


def test_objects_for_the_journal(journal: Begin) -> None:
    read = journal("info", "json")
    logging.getLogger("kapla").warning("x")
    assert read().startswith("<4>{")
    assert json.loads(read()[3:])["message"] == "x"


@pytest.mark.parametrize("stream", ["", "1:2", "nonsense", "1:2:3"])
def test_another_stream_is_not_the_journals(
    journal: Begin,
    monkeypatch: pytest.MonkeyPatch,
    stream: str,
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", stream)
    read = journal("info", "text")
    logging.getLogger("kapla").info("x")
    assert LINE.fullmatch(read())


def test_redact() -> None:
    urn = CAPABILITY.to_urn()
    assert log.redact(f"no file {urn}, sorry") == "no file urn:eris:…, sorry"
    assert log.redact("URN:ERIS:ABC urn:erisx2:ABC") == "URN:ERIS:… urn:erisx2:…"
    block_urn = "urn:blake2b:" + "A" * 52
    assert log.redact(block_urn) == block_urn
    assert log.redact("nothing to hide") == "nothing to hide"
    assert log.redact("at (postgresql://u:s3/c@ret@h/k).") == "at (postgresql://…@h/k)."
    assert log.redact("postgres:///k?password=s3cret&host=/x") == "postgres:///k?password=…&host=/x"


def test_where_standard_error_is_closed_nothing_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    for form in ("text", "json"):
        log.configure("info", form)
        logging.getLogger("kapla").error("x")


def test_what_strangers_write_makes_no_line_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    log.configure("info")
    forged = "2026-11-20 10:12:31 (ERROR): forged"
    logging.getLogger("kapla").info("%s", f"x\n{forged}\x1b[2J\u2028\udcff é")
    match = LINE.fullmatch(capsys.readouterr().err)
    assert match is not None
    assert match[2] == rf"x\n{forged}\x1b[2J\u2028\udcff é"
