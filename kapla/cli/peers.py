"""`kapla peers`: the daemon's peers, and how it stands with each."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any, Final

import click

from eris.errors import StoreRefused
from eris_fs.model import printable
from kapla.cli.amounts import bytes_text, duration_text
from kapla.cli.common import CommandError, ExitCode, connect, run, store_option
from kapla.cli.facts import facts_json
from kapla.errors import NotAllowed
from kapla.peer_listing import list_peers

__all__ = ["command"]

_HEAD: Final = ("STATE", "WAY", "RTT", "RATE", "HITS", "IN", "OUT", "ADDRESS", "PEER", "NOTE")
# Those that are numbers end at the same place.
_NUMBERS: Final = range(_HEAD.index("RTT"), _HEAD.index("ADDRESS"))
_NONE: Final = "-"


@click.command(name="peers", short_help="Show the daemon's peers, and how each is.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each peer.")
@store_option
def command(as_json: bool, store_url: str | None) -> None:
    """Show the daemon's peers: the other daemons that it asks for what it does not have.

    Of each whether there is a connection and which end made it, how long a block takes, how many
    bytes a second come, which part of what it was asked for it had, bytes of blocks from it and to
    it, its address, and its name, key or URL; and why it is not asked, if it is not.
    """

    async def ask() -> list[dict[str, Any]]:
        async with connect(store_url) as store:
            try:
                return await list_peers(await store.taker())
            except NotAllowed:
                raise CommandError(
                    f"{store.urls[0]} does not tell of its peers: its listener needs the flag stat,"
                    " as in coap+tcp://HOST?get&stat",
                    ExitCode.REFUSED,
                ) from None
            except StoreRefused as error:
                raise CommandError(str(error), ExitCode.REFUSED) from None

    found = run(ask())
    if as_json:
        for one in found:
            click.echo(facts_json(one, "list"))
        return
    try:
        rows = [_row(one) for one in found]
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
        raise CommandError(
            "the store's list is none of a Kapla daemon; see --json", ExitCode.STORE
        ) from None
    for line in _table(rows) if rows else ():
        click.echo(line)


def _row(peer: dict[str, Any]) -> list[str]:
    ratio, rtt_s = peer["hit_ratio"], peer["rtt_s"]
    return [
        printable(peer["state"]),
        printable(peer["direction"] or _NONE),
        _NONE if rtt_s is None else _milliseconds(rtt_s),
        _NONE if not peer["rate"] else f"{bytes_text(peer['rate'])}/s",
        _NONE if ratio is None else f"{100 * ratio:.0f} %",
        bytes_text(peer["bytes_in"]),
        bytes_text(peer["bytes_out"]),
        printable(peer["address"] or _NONE),
        printable(peer["name"] or peer["key"] or peer["url"]),
        printable(_note(peer)),
    ]


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.0f} ms" if seconds >= 0.01 else f"{1000 * seconds:.1f} ms"


def _note(peer: dict[str, Any]) -> str:
    """Why it is not asked, and when there is another try."""
    why, seconds = peer["why"], peer["next_try_s"]
    if peer["breaker"] is not None:
        why, seconds = f"not asked: {peer['breaker']}", peer["breaker_s"]
    if why is None:
        return ""
    return why if seconds is None else f"{why}; next try in {duration_text(ceil(seconds))}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines; what may be long is last."""
    widths = [max(map(len, column)) for column in zip(_HEAD, *rows, strict=True)]
    return [_line(cells, widths) for cells in (_HEAD, *rows)]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.rjust(width) if place in _NUMBERS else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()
