"""The catalogue, for commands that read it: what cannot be read is an error of theirs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches

from eris_fs.model import printable
from kapla.catalogue.catalogue import Catalogue
from kapla.catalogue.errors import CatalogueDamaged, CatalogueError
from kapla.catalogue.place import default_path
from kapla.cli.outcome import CommandError, ExitCode

__all__ = ["CatalogueUnread", "near", "opened"]


class CatalogueUnread(CommandError):
    """The catalogue is there, and cannot be read."""


@contextmanager
def opened() -> Iterator[Catalogue | None]:
    """The catalogue of this user; None if there is none.

    Raises: CatalogueUnread.
    """
    try:
        try:
            catalogue = Catalogue.open(default_path())
        except FileNotFoundError:
            yield None
            return
        with catalogue:
            yield catalogue
    except CatalogueDamaged as error:
        text = f"{error}; the next encode sets it aside, and keeps what can be read of it"
        raise CatalogueUnread(text, ExitCode.DAMAGED) from error
    except CatalogueError as error:
        text = f"the catalogue cannot be used: {error}"
        raise CatalogueUnread(text, ExitCode.FILE) from error


def near(catalogue: Catalogue | None, name: str) -> str:
    """A question for a name that is not there; empty if none looks like it."""
    names = [] if catalogue is None else catalogue.names()
    found = get_close_matches(name, names, 1)
    return f"; is {printable(found[0])} meant?" if found else ""
