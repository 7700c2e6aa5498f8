"""`@NAME` and `@NAME~N` in the place of a URN: what they stand for, beside files of that name.

`@FILE` reads a URN from a file. Where a file that may hold one is called as something in the
catalogue is, neither is taken: `@./notes` is the file, since no name has a slash, and `@notes~0` is
the newest version. Any other file, as what was encoded under its own name, cannot be meant.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from eris.capability import URN_PREFIX
from eris.link import LINK_MAGIC
from eris_fs.model import printable
from kapla.cli.outcome import CommandError, ExitCode

if TYPE_CHECKING:
    from kapla.catalogue.catalogue import Catalogue
    from kapla.catalogue.entries import Entry

__all__ = ["entries_of", "entry_named", "urn_named", "with_at"]

# White space may stand before a URN.
_HEAD: Final = 4096


def urn_named(text: str) -> str | None:
    """The URN that `@text` stands for; None if it is to be read from a file.

    Raises: CommandError, if it can be either, or neither.
    """
    entry = entry_named(text)
    return None if entry is None else entry.urn


def entry_named(text: str) -> Entry | None:
    """What `@text` stands for in the catalogue; None if it is to be read from a file.

    Raises: CommandError.
    """
    from kapla.catalogue.names import parse_version

    wanted = parse_version(text)
    if wanted is None:
        return None
    from kapla.cli.opened import CatalogueUnread, opened

    try:
        with opened() as catalogue:
            return None if catalogue is None else _find(catalogue, text, *wanted)
    except CatalogueUnread:
        # The file is there, and a catalogue that cannot be read names nothing.
        if _is_file(text):
            return None
        raise


def with_at(text: str) -> str | None:
    """How what was written would name something in the catalogue, with @; None if it does not."""
    with suppress(CommandError):
        if text and not text.startswith("@") and entry_named(text) is not None:
            return f"@{printable(text)}"
    return None


def entries_of(roots: Iterable[bytes | None]) -> dict[bytes, list[Entry]]:
    """What the catalogue has of contents, newest first, by the references of their roots.

    Raises: CatalogueUnread.
    """
    from kapla.cli.opened import opened

    found = {}
    with opened() as catalogue:
        for root in roots:
            if catalogue is not None and root:
                sound = [entry for entry in catalogue.with_root(root) if entry.is_sound]
                found.update({root: sound} if sound else {})
    return found


def _is_file(path: str) -> bool:
    """Whether a URN could be read from there: a directory may well be called as its URN is."""
    return os.path.lexists(path) and not os.path.isdir(path)


def _may_hold_urn(path: str) -> bool:
    """Whether a file begins as one that a URN is read from, or cannot be looked into."""
    if not os.path.isfile(path):
        return True
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return True
    return head.startswith(LINK_MAGIC) or head.lstrip().lower().startswith(URN_PREFIX.encode())


def _find(catalogue: Catalogue, text: str, name: str, version: int) -> Entry | None:
    from kapla.cli.opened import near

    is_file = _is_file(text)
    entry = catalogue.find(name, version)
    if entry is None:
        if is_file:
            return None
        _check_versions(catalogue, name)
        meant = near(catalogue, name)
        if os.path.isdir(text):
            raise CommandError(
                f"{printable(text)} is a directory, and no name in the catalogue{meant}",
                ExitCode.FILE,
            )
        if meant:
            raise CommandError(
                f"{printable(text)}: no such file, nor such a name in the catalogue{meant}",
                ExitCode.FILE,
            )
        return None
    if is_file and _may_hold_urn(text):
        raise CommandError(
            f"{printable(text)} is a file, and a name in the catalogue: write @./{printable(text)}"
            f" for the file, or @{printable(_unlike_a_file(name, version))} for the name",
            ExitCode.USAGE,
        )
    if not entry.is_sound:
        raise CommandError(
            f"{printable(text)}: this entry of the catalogue is damaged", ExitCode.DAMAGED
        )
    return entry


def _check_versions(catalogue: Catalogue, name: str) -> None:
    count = len(catalogue.versions(name))
    if count:
        versions = "one version" if count == 1 else f"{count} versions"
        raise CommandError(
            f"the catalogue has {versions} of {printable(name)}, counted from ~0, the newest"
        )


def _unlike_a_file(name: str, version: int) -> str:
    """Another way to write a version, which is not how a file is called."""
    text = f"{name}~{version}"
    while _is_file(text):
        text = text.replace("~", "~0")
    return text
