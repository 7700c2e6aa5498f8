"""Logging: configured here and nowhere else. One line an event, to stderr."""

from __future__ import annotations

import logging
import sys

__all__ = ["configure"]


def configure(level: str) -> None:
    """Send the log to stderr: `2026-11-20 10:12:31 (INFO): …`.

    `level` is one of debug, info, warning, error.
    """
    logging.basicConfig(
        stream=sys.stderr,
        level=level.upper(),
        format="%(asctime)s (%(levelname)s): %(message)s",
        datefmt="%Y-%m-%d %H:%M:%S",
        force=True,
    )
    # Libraries speak up only when something is wrong with them.
    for name in ("asyncio", "coap", "coap-server", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.WARNING)
