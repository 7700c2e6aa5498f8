"""Logging: configured here and nowhere else. One line an event, to stderr."""

from __future__ import annotations

import io
import logging
import re
import sys
from typing import Final

import click

__all__ = ["configure", "debug_exception", "redact", "redacted_usage"]

# That somebody broke a connection off while it was written to. It has no way to learn that before,
# and strangers would write our log.
_OF_OTHERS: Final = frozenset({"socket.send() raised exception.", "SSL connection is closed"})
_URN: Final = re.compile(r"(urn:eris\w*:)[A-Za-z0-9]+", re.IGNORECASE)


def configure(level: str) -> None:
    """Send the log to stderr: `2026-11-20 10:12:31 (INFO): …`.

    `level` is one of debug, info, warning, error.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _Redacting("%(asctime)s (%(levelname)s): %(message)s", datefmt="%Y-%m-%d %H:%M:%S")
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Libraries speak up only when something is wrong with them.
    for name in ("asyncio", "coap", "coap-server", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("asyncio").addFilter(_is_of_us)


def debug_exception(name: str) -> None:
    """Log the exception under way, with its traceback, for those who look closely."""
    logging.getLogger(name).debug("Failed", exc_info=True)


def redact(text: str) -> str:
    """Leave out the letters of any ERIS URN: who reads them can read the content."""
    return _URN.sub(r"\1…", text)


def redacted_usage(error: click.ClickException) -> str:
    """What click says of a wrong command line, which it repeats in part."""
    shown = io.StringIO()
    error.show(file=shown)
    return redact(shown.getvalue())


def _is_of_us(record: logging.LogRecord) -> bool:
    return record.msg not in _OF_OTHERS


class _Redacting(logging.Formatter):
    """The last guard: errors of other libraries may name what a user typed in the wrong place."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))
