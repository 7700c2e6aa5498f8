"""`kapla pins`: what is pinned in a store."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from eris.base32 import format_base32
from eris_fs.model import printable
from kapla.amounts import bytes_text, duration_text
from kapla.cli.common import connect, run, store_option
from kapla.cli.named import entries_of
from kapla.cli.outcome import ExitCode
from kapla.cli.store import say
from kapla.cli.told import told
from kapla.pinning import Pins
from kapla.pins import PinSummary

if TYPE_CHECKING:
    from kapla.catalogue.entries import Entry

__all__ = ["command"]

Known = Mapping[bytes, Sequence["Entry"]]
"""What the catalogue has of contents, by the references of their roots."""

_NAME_WIDTH = 52
"""As wide as the name of a pin that was given none."""
_SHOWN_TITLES = 3
_HEAD = ("SIZE", "ONLY HERE", "MISSING", "KEPT", "LENT", "AGE", "NAME")


@told(
    ("See what is pinned, and how much room each takes", "kapla pins"),
    exits=(ExitCode.STORE, ExitCode.REFUSED),
)
@click.command(name="pins", short_help="List what is pinned in the store.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each pin.")
@store_option
def command(as_json: bool, store_url: str | None) -> None:
    """List the pins in the store: yours, and those of others where you may see them.

    Of each the bytes of its blocks, those that no other pin holds, how many blocks are missing, and
    whether it is kept and lent. A pin that was given no name is called by the reference of its
    first block; what your catalogue calls its content stands beside it.
    """

    async def ask() -> list[PinSummary]:
        async with connect(store_url) as store:
            return [one async for one in Pins(await store.taker()).list()]

    found = run(ask())
    known = _known(found)
    if as_json:
        for one in found:
            facts = _facts(one, _titles(known.get(one.root or b"", [])))
            click.echo(json.dumps(facts).replace("\x7f", "\\u007f"))
    elif found:
        for line in _table(found, known):
            click.echo(line)


def _known(found: Sequence[PinSummary]) -> Known:
    """What the catalogue has of them. Pins can be listed without it."""
    from kapla.cli.opened import CatalogueUnread

    try:
        return entries_of(pin.root for pin in found)
    except CatalogueUnread as error:
        say(f"the names of contents are not shown: {error}")
        return {}


def _facts(pin: PinSummary, titles: Sequence[str]) -> dict[str, Any]:
    return {
        "name": pin.name,
        "owner": pin.owner,
        "root": None if pin.root is None else format_base32(pin.root),
        "keep": pin.keep,
        "lend": pin.lend,
        "created": pin.created,
        "blocks": pin.small + pin.large,
        "bytes": pin.block_bytes,
        "own_blocks": pin.own_small + pin.own_large,
        "own_bytes": pin.own_block_bytes,
        "missing": pin.missing,
        "catalogue": titles,
    }


def _table(found: Sequence[PinSummary], known: Known) -> list[str]:
    """Lines with the names last: they may be long."""
    owners = {pin.owner for pin in found}
    rows = [_row(pin) for pin in found]
    head = list(_HEAD)
    if len(owners) > 1:
        head.insert(-1, "OWNER")
        for row, pin in zip(rows, found, strict=True):
            row.insert(-1, _user(pin.owner))
    if known:
        head.append("CATALOGUE")
        for row, pin in zip(rows, found, strict=True):
            row.append(_called(known.get(pin.root or b"", [])))
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    names = head.index("NAME")
    # One long name does not push the rest of all lines away.
    widths[names] = min(widths[names], _NAME_WIDTH)
    return [_line(cells, widths, names) for cells in (head, *rows)]


def _titles(entries: Sequence[Entry]) -> list[str]:
    return [f"@{entry.title}" for entry in entries if entry.title]


def _called(entries: Sequence[Entry]) -> str:
    """The names of a content; of one that has none what it was made of."""
    titles = _titles(entries) or [entry.source for entry in entries[:1]] or ["-"]
    more = len(titles) - _SHOWN_TITLES
    shown = printable(", ".join(titles[:_SHOWN_TITLES]))
    return f"{shown}, and {more:,} more" if more > 0 else shown


def _row(pin: PinSummary) -> list[str]:
    return [
        bytes_text(pin.block_bytes),
        bytes_text(pin.own_block_bytes),
        f"{pin.missing:,}",
        _yes(pin.keep),
        _yes(pin.lend),
        _age(pin.created),
        printable(pin.name),
    ]


def _age(created: int) -> str:
    """How long ago that was, by the largest unit."""
    return " ".join(duration_text(max(0.0, time.time() - created)).split(" ")[:2])


def _line(cells: Sequence[str], widths: Sequence[int], numbers: int) -> str:
    """Numbers end at the same place, names begin there."""
    padded = [
        cell.rjust(width) if place < numbers else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()


def _yes(switch: bool) -> str:
    return "yes" if switch else "no"


def _user(uid: int) -> str:
    import pwd

    try:
        return printable(pwd.getpwuid(uid).pw_name)
    except (KeyError, OverflowError):
        return str(uid)
