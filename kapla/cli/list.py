"""`kapla list`: what is in the catalogue."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from eris_fs import printable
from kapla.amounts import bytes_text
from kapla.cli.common import CommandError, ExitCode
from kapla.cli.told import told
from kapla.cli.width import padded

if TYPE_CHECKING:
    from kapla.catalogue.entries import Entry

__all__ = ["command"]

_NAME_WIDTH = 20


@told(
    ("See what you have stored", "kapla list"),
    ("All versions of one name, and where they are", "kapla list --long notes"),
    means={ExitCode.DAMAGED: "the catalogue is damaged"},
)
@click.command(name="list", short_help="List what you have stored.")
@click.argument("name", required=False)
@click.option("-l", "--long", "long", is_flag=True, help="Tell the blocks and the store, too.")
@click.option("--urns", is_flag=True, help="Print the URNs, too: whoever sees one can read it.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object for each entry, with URN and store."
)
def command(name: str | None, long: bool, urns: bool, as_json: bool) -> None:
    """List what `kapla encode` stored for you, newest first; with NAME its versions only.

    The catalogue is a file of yours: no daemon is asked. What has no name can be forgotten by its
    URN.
    """
    from kapla.cli.opened import near, opened

    damaged = 0
    with opened() as catalogue:
        entries = iter(()) if catalogue is None else catalogue.newest_first()
        if name is not None:
            found = [] if catalogue is None else catalogue.versions(_read_name(name))
            if not found:
                hint = near(catalogue, name)
                raise CommandError(f"the catalogue has no {printable(name)}{hint}")
            entries = iter(found)
        is_first = True
        for entry in entries:
            if is_first and not as_json:
                click.echo(_heading(long, urns))
            is_first = False
            damaged += not entry.is_sound
            click.echo(_json_line(entry) if as_json else _line(entry, long, urns))
    if damaged:
        entries_are = "1 entry is" if damaged == 1 else f"{damaged} entries are"
        raise CommandError(f"{entries_are} damaged", ExitCode.DAMAGED)


def _read_name(text: str) -> str:
    from kapla.catalogue.errors import NotAName
    from kapla.catalogue.names import check_name

    try:
        return check_name(text)
    except NotAName as error:
        raise CommandError(str(error), ExitCode.USAGE) from None


def _heading(long: bool, urns: bool) -> str:
    text = f"{'STORED':<16}  {'KIND':<7}  {'SIZE':>10}  {'NAME':<{_NAME_WIDTH}}  FROM"
    if long:
        text += "  BLOCKS  STORE"
    return text + "  URN" if urns else text


def _line(entry: Entry, long: bool, urns: bool) -> str:
    kind = entry.kind if entry.is_sound else "damaged"
    name = printable(entry.title) or "-"
    parts = [
        time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.stored)),
        f"{printable(kind):<7}",
        f"{bytes_text(entry.size):>10}",
        padded(name, _NAME_WIDTH),
        printable(entry.source),
    ]
    if long:
        parts += ["-" if entry.blocks is None else str(entry.blocks), shown_store(entry)]
    if urns:
        parts.append(printable(entry.urn))
    return "  ".join(parts).rstrip()


def shown_store(entry: Entry) -> str:
    """A store by its endpoint: the path behind it may be a capability."""
    from kapla.errors import InvalidUrl
    from kapla.given_urls import read_store_url

    try:
        return printable(str(read_store_url(entry.store)))
    except InvalidUrl:
        return "?"


def _json_line(entry: Entry) -> str:
    fields: dict[str, Any] = {
        "name": entry.name,
        "version": None if entry.name is None else entry.version,
        "stored": entry.stored,
        "kind": entry.kind,
        "size": entry.size,
        "blocks": entry.blocks,
        "source": entry.source,
        "store": entry.store,
        "urn": entry.urn,
    }
    if not entry.is_sound:
        fields["damaged"] = True
    # Python escapes all that is not printable but DEL.
    return json.dumps(fields).replace("\x7f", "\\u007f")
