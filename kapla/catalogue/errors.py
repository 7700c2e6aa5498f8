"""Why a catalogue cannot be used. The messages name files, and never a URN."""

from __future__ import annotations

from kapla.errors import KaplaError

__all__ = ["CatalogueDamaged", "CatalogueError", "CatalogueUnusable", "NotAName"]


class CatalogueError(KaplaError):
    """Base of the errors of the catalogue."""


class CatalogueUnusable(CatalogueError):
    """The file, or its directory, cannot be used now, or not by us: it may well be sound."""


class CatalogueDamaged(CatalogueError):
    """The file holds something else than a catalogue, or one that was damaged."""


class NotAName(CatalogueError, ValueError):
    """A text that cannot name a content; the message says what a name is."""
