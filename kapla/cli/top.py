"""`kapla top`: what the daemon is doing, as its page shows it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from eris.errors import StoreRefused
from eris_fs.model import printable
from kapla.cli.common import CommandError, ExitCode, connect, run, store_option
from kapla.cli.facts import facts_json
from kapla.cli.told import told
from kapla.errors import NotAllowed

if TYPE_CHECKING:
    from kapla.status.view import View

__all__ = ["command"]

_INTERVAL_S: Final = 2.0
_PLAIN_WIDTH: Final = 80
_NO_DAEMON: Final = "the store's facts are none of a Kapla daemon; see --json"


@told(
    ("Watch the daemon of this machine; q ends it", "kapla top"),
    ("See once how it is doing", "kapla top --once"),
    exits=(ExitCode.STORE, ExitCode.REFUSED),
)
@click.command(name="top", short_help="Watch what the daemon is doing.")
@click.option("--once", is_flag=True, help="Show it once, as plain text.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object with all facts, once.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.5, max=3600),
    default=_INTERVAL_S,
    show_default=True,
    metavar="SECONDS",
    help="How often to look.",
)
@store_option
def command(once: bool, as_json: bool, interval: float, store_url: str | None) -> None:
    """Watch what the daemon is doing: space, blocks, traffic, hits, pins, peers.

    Root and the user who runs the daemon see transfers, and all pins, too. On a terminal it is
    shown until q is pressed; a daemon that is restarted is waited for. Elsewhere, or with --once,
    it is shown once.
    """
    if once and as_json:
        raise click.UsageError("--once and --json exclude each other.")
    if not (once or as_json) and sys.stdout.isatty() and sys.stdin.isatty():
        # Loaded only here: it takes longer than many a command.
        from kapla.cli.watching import watch

        run(watch(store_url, interval))
        return
    facts = run(_facts(store_url))
    if as_json:
        click.echo(facts_json(facts, "report"))
        return
    _show(facts)


async def _facts(store_url: str | None) -> dict[str, Any]:
    from kapla.status_listing import ask_status

    async with connect(store_url) as store:
        try:
            return await ask_status(await store.taker())
        except NotAllowed:
            raise CommandError(
                f"{store.urls[0]} does not tell how it is doing: its listener needs the flag stat,"
                " as in coap+tcp://HOST?get&stat",
                ExitCode.REFUSED,
            ) from None
        except StoreRefused as error:
            raise CommandError(f"{error}: it is no such kaplad", ExitCode.REFUSED) from None


def _show(facts: Mapping[str, Any]) -> None:
    from kapla.status.lines import lines_of

    width = shutil.get_terminal_size((_PLAIN_WIDTH, 24)).columns
    for line in lines_of(_view(facts), width):
        click.echo("".join(printable(piece.text) for piece in line).rstrip())


def _view(facts: Mapping[str, Any]) -> View:
    from kapla.status.daemon import daemon_view
    from kapla.status.facts import DaemonFacts, InvalidFacts

    try:
        return daemon_view(DaemonFacts.read(facts))
    except InvalidFacts:
        raise CommandError(_NO_DAEMON, ExitCode.STORE) from None
