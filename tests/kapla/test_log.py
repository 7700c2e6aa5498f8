"""Log lines: their form, and what never stands in them."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

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


def test_redact() -> None:
    urn = CAPABILITY.to_urn()
    assert log.redact(f"no file {urn}, sorry") == "no file urn:eris:…, sorry"
    assert log.redact("URN:ERIS:ABC urn:erisx2:ABC") == "URN:ERIS:… urn:erisx2:…"
    block_urn = "urn:blake2b:" + "A" * 52
    assert log.redact(block_urn) == block_urn
    assert log.redact("nothing to hide") == "nothing to hide"
