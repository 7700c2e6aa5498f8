"""`kapla forget`: takes entries out of the catalogue, and has their stores let the blocks go."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from eris.errors import ErisError
from eris_fs import printable
from kapla.cli.common import CommandError, run
from kapla.cli.named import entry_named
from kapla.cli.outcome import ExitCode
from kapla.cli.store import timeout_option
from kapla.cli.told import told
from kapla.cli.urn import read_capability
from kapla.errors import InvalidUrl

if TYPE_CHECKING:
    from kapla.catalogue.catalogue import Catalogue
    from kapla.catalogue.entries import Entry

__all__ = ["command"]


@told(
    ("Let go of a name, with all its versions", "kapla forget notes"),
    ("Let go of one version", "kapla forget @notes~2"),
    exits=(ExitCode.STORE, ExitCode.DAMAGED, ExitCode.REFUSED),
)
@click.command(name="forget", short_help="Take something out of the catalogue.")
@click.argument("what", metavar="NAME|URN", nargs=-1, required=True)
@click.option(
    "--local",
    is_flag=True,
    help="Do not tell the store, which may be gone for good: its blocks stay pinned there.",
)
@timeout_option
def command(what: tuple[str, ...], local: bool) -> None:
    """Take a name with all its versions out of the catalogue, or a URN wherever it stands.

    @NAME~1 is one version. The store no longer keeps the blocks for you, unless another entry has
    the same: it drops them when it needs room. If it cannot be told, the entry stays.
    """
    from kapla.cli.opened import opened

    with opened() as catalogue:
        # All of them first: a mistyped one is found before anything is forgotten.
        found = [entry for one in what for entry in _find(catalogue, one)]
        if catalogue is not None:
            run(_forget(catalogue, list({entry.id: entry for entry in found}.values()), local))


def _find(catalogue: Catalogue | None, text: str) -> list[Entry]:
    if text.startswith("@") and (entry := entry_named(text[1:])) is not None:
        return [entry]
    if text == "-" or text.startswith("@") or text.lower().startswith("urn:"):
        capability = read_capability(text)
        root = capability.root.reference
        entries = [] if catalogue is None else catalogue.with_urn(capability.to_urn(), root)
        if not entries:
            raise CommandError("the catalogue does not have this URN")
        return entries
    return _find_name(catalogue, text)


def _find_name(catalogue: Catalogue | None, text: str) -> list[Entry]:
    from kapla.catalogue.errors import NotAName
    from kapla.catalogue.names import check_name
    from kapla.cli.opened import near

    if "~" in text:
        raise CommandError("one version of a name is @NAME~N", ExitCode.USAGE)
    try:
        entries = [] if catalogue is None else catalogue.versions(check_name(text))
    except NotAName as error:
        raise CommandError(str(error), ExitCode.USAGE) from None
    if not entries:
        raise CommandError(f"the catalogue has no {printable(text)}{near(catalogue, text)}")
    # The oldest first: what is left of a name after an error is its newest.
    return entries[::-1]


async def _forget(catalogue: Catalogue, entries: list[Entry], local: bool) -> None:
    from kapla.cli.letting_go import let_go

    for entry in entries:
        title = printable(entry.title) or "an entry without a name"
        try:
            is_shared = await let_go(catalogue, entry, local=local)
        except (ErisError, InvalidUrl, CommandError) as error:
            text = f"{title} stays in the catalogue: {error}; --local forgets it all the same"
            raise CommandError(text, ExitCode.STORE) from error
        click.echo(f"forgotten: {title}{_left(entry, is_shared, local)}")


def _left(entry: Entry, is_shared: bool, local: bool) -> str:
    """What is still kept for the user, and why."""
    if is_shared:
        return "; its blocks stay: another entry has the same"
    if local or not entry.is_sound:
        return "; its store was not told, and keeps the blocks if it has pinned them"
    return ""
