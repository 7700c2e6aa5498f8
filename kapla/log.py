"""Logging: configured here and nowhere else. One line an event, to stderr.

    2026-11-20 10:12:31 (INFO): Listening on …                     text
    <6>Listening on …                                              text, where the journal reads it
    {"time": "2026-11-20T10:12:31.123Z", "level": "info", …}       json

The journal notes the time itself, and takes the level from the number in front, as syslog has it.
"""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import time
from collections.abc import Mapping
from typing import Final, Literal, TextIO

import click

__all__ = ["Format", "configure", "debug_exception", "redact", "redacted_usage"]

# That somebody broke a connection off while it was written to. It has no way to learn that before,
# and strangers would write our log.
_OF_OTHERS: Final = frozenset({"socket.send() raised exception.", "SSL connection is closed"})
Format = Literal["text", "json"]
"""What a line is."""

# Of syslog, as in sd-daemon(3).
_PRIORITIES: Final = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)
_DEBUG_PRIORITY: Final = 7
_URN: Final = re.compile(r"(urn:eris\w*:)[A-Za-z0-9]+", re.IGNORECASE)
_SECRETS: Final = (
    (_URN, r"\1…"),
    # Of a database's URL whoever it is for, and a password in its query.
    (re.compile(r"(postgres(?:ql)?://)\S*@", re.IGNORECASE), r"\1…@"),
    (re.compile(r"([?&\s](?:ssl)?password=)[^&\s]+", re.IGNORECASE), r"\1…"),
)


def configure(level: str, form: Format = "text") -> None:
    """Send the log to stderr, from this level on: one of debug, info, warning, error."""
    logging.basicConfig(level=level.upper(), handlers=[_handler(form)], force=True)
    # Libraries speak up only when something is wrong with them.
    for name in ("asyncio", "coap", "coap-server", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Of a connection that was lost whoever uses it tells.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    logging.getLogger("asyncio").addFilter(_is_of_us)


def _handler(form: Format) -> logging.Handler:
    # There is none where it was closed when the program began.
    if sys.stderr is None:
        return logging.NullHandler()
    handler = logging.StreamHandler(sys.stderr)
    formatter = _Json() if form == "json" else _Text()
    handler.setFormatter(_ForJournal(formatter) if _is_journal(sys.stderr) else formatter)
    return handler


def debug_exception(name: str) -> None:
    """Log the exception under way, with its traceback, for those who look closely."""
    logging.getLogger(name).debug("Failed", exc_info=True)


def redact(text: str) -> str:
    """Leave out passwords, and the letters of any ERIS URN: who reads them can read the content."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def redacted_usage(error: click.ClickException) -> str:
    """What click says of a wrong command line, which it repeats in part."""
    shown = io.StringIO()
    error.show(file=shown)
    return redact(shown.getvalue())


def _is_of_us(record: logging.LogRecord) -> bool:
    return record.msg not in _OF_OTHERS


def _is_journal(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the journal reads this stream: `$JOURNAL_STREAM` names its device and inode.

    Source: systemd.exec(5).
    """
    named = environment.get("JOURNAL_STREAM", "")
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return named == f"{status.st_dev}:{status.st_ino}"


class _Redacting(logging.Formatter):
    """The last guard: errors of other libraries may name what a user typed in the wrong place.

    Or repeat what a stranger sent: of that no terminal is told anything, and no line is made.
    """

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = _one_line(record.message)
        return super().formatMessage(record)


class _Text(_Redacting):
    def __init__(self) -> None:
        super().__init__("%(asctime)s (%(levelname)s): %(message)s", datefmt="%Y-%m-%d %H:%M:%S")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        # Loaded by those who want it.
        import json

        facts = {
            "time": _rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        if record.exc_info:
            facts["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps(facts, ensure_ascii=False)


class _ForJournal(logging.Formatter):
    """Lines as the journal takes them: each with its priority, as each is an entry of its own."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = _Redacting("%(message)s") if isinstance(inner, _Text) else inner

    def format(self, record: logging.LogRecord) -> str:
        priority = next(
            (number for level, number in _PRIORITIES if record.levelno >= level), _DEBUG_PRIORITY
        )
        lines = self._inner.format(record).split("\n")
        return "\n".join(f"<{priority}>{line}" for line in lines)


def _one_line(text: str) -> str:
    """Control characters and stray bytes as escapes."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _rfc3339(seconds: float) -> str:
    whole, milliseconds = divmod(int(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{milliseconds:03}Z"
