"""`kapla peers`: the daemon's peers, and how it stands with each; or who is found near."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from math import ceil
from typing import Any, Final

import click

from eris.errors import StoreRefused
from eris_fs.model import printable
from kapla.amounts import bytes_text, duration_text
from kapla.cli.columns import table
from kapla.cli.common import CommandError, ExitCode, connect, run, store_option
from kapla.cli.facts import facts_json
from kapla.cli.found import found_lines
from kapla.cli.told import told
from kapla.errors import NotAllowed
from kapla.peer_listing import list_found, list_peers
from kapla.remote_store import RemoteStore
from kapla.urls import FileEndpoint

__all__ = ["command"]

_HEAD: Final = ("STATE", "WAY", "RTT", "RATE", "HITS", "IN", "OUT", "ADDRESS", "PEER", "NOTE")
# Those that are numbers end at the same place.
_NUMBERS: Final = range(_HEAD.index("RTT"), _HEAD.index("ADDRESS"))
_NONE: Final = "-"


@told(
    ("See whom the daemon asks, and how each is", "kapla peers"),
    ("See who is near, and why they are not asked", "kapla peers --found"),
    exits=(ExitCode.STORE, ExitCode.REFUSED),
)
@click.command(name="peers", short_help="Show the daemon's peers, and how each is.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each peer.")
@click.option(
    "--found",
    is_flag=True,
    help="Show who was found on the local network instead, and how to trust that network.",
)
@store_option
def command(as_json: bool, found: bool, store_url: str | None) -> None:
    """Show the daemon's peers: the other daemons that it asks for what it does not have.

    Of each whether there is a connection and which end made it, how long a block takes, how many
    bytes a second come, which part of what it was asked for it had, bytes of blocks from it and to
    it, its address, and its name, key or URL; and why it is not asked, if it is not.

    With --found the daemons that were found on the local network, whether they are asked and why,
    and the networks that this machine is in, each with the entry of discover-networks that would
    trust it.
    """
    told = run(_ask(store_url, list_found if found else list_peers))
    if as_json:
        for one in told:
            click.echo(facts_json(one, "list"))
        return
    try:
        lines = found_lines(told) if found else _peer_lines(told)
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
        raise CommandError(
            "the store's list is none of a Kapla daemon; see --json", ExitCode.STORE
        ) from None
    for line in lines:
        click.echo(line)


async def _ask(
    store_url: str | None,
    ask: Callable[[RemoteStore], Coroutine[Any, Any, list[dict[str, Any]]]],
) -> list[dict[str, Any]]:
    async with connect(store_url) as store:
        if isinstance(store.urls[0].endpoint, FileEndpoint):
            raise CommandError(
                f"{store.urls[0]} has no peers: only a daemon asks others", ExitCode.USAGE
            )
        try:
            return await ask(await store.taker())
        except NotAllowed:
            raise CommandError(
                f"{store.urls[0]} does not tell of its peers: its listener needs the flag stat,"
                " as in coap+tcp://HOST?get&stat",
                ExitCode.REFUSED,
            ) from None
        except StoreRefused as error:
            raise CommandError(str(error), ExitCode.REFUSED) from None


def _peer_lines(peers: Sequence[dict[str, Any]]) -> list[str]:
    return table(_HEAD, [_row(one) for one in peers], _NUMBERS)


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
        return "found on the local network" if peer.get("found") else ""
    return why if seconds is None else f"{why}; next try in {duration_text(ceil(seconds))}"
