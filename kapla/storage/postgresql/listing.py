"""Listing a whole store, some blocks at a time: the oldest generation first.

Each page is read on a connection of its own. What was put meanwhile may be in the list or not, and
what an eviction copied may be there twice.
"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import Final

from eris.model import Reference
from kapla.storage.listing import Pages
from kapla.storage.port import Page
from kapla.storage.postgresql.along import Along
from kapla.storage.postgresql.places import parse_place
from kapla.storage.postgresql.session import Session
from kapla.storage.postgresql.settings import PostgresSettings

__all__ = ["PAGE", "pages_of"]

PAGE: Final = 1000
"""Blocks in a page. Their references are in one message."""


def pages_of(settings: PostgresSettings) -> Pages:
    """The list of what a store has; a page begins behind a place."""
    return Pages(partial(_read, settings))


def _read(settings: PostgresSettings, start: int) -> Page:
    with closing(Session(settings, "kaplad list")) as session:
        rows = Along(session).references(parse_place(start), PAGE)
    if not rows:
        return Page([], None)
    return Page([Reference(name) for _, name, _ in rows], rows[-1][0].number)
