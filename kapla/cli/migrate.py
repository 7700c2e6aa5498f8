"""`kapla store`: what is done with whole stores, by themselves and without a daemon."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from kapla.amounts import blocks_text, bytes_text
from kapla.cli.common import CommandError, ExitCode, Progress, progress, run
from kapla.cli.store import say
from kapla.cli.told import told
from kapla.errors import StorageError
from kapla.migrating import Migrated
from kapla.store_place import StorePlace, parse_place

__all__ = ["command"]


@told(
    (
        "Move a store into a database",
        "kapla store migrate /var/lib/kapla/blocks.sqlite 'postgresql:///kapla'",
    ),
)
@click.group(name="store", short_help="Move a whole store into a database, or back.")
def command() -> None:
    """See to whole stores, by themselves: files that no daemon uses, and databases."""


@told(
    (
        "Move a store into a database",
        "kapla store migrate /var/lib/kapla/blocks.sqlite 'postgresql:///kapla'",
    ),
    (
        "And back into a file",
        "kapla store migrate 'postgresql:///kapla' /srv/blocks/kapla.sqlite",
    ),
    exits=(ExitCode.STORE, ExitCode.DAMAGED, ExitCode.REFUSED),
)
@command.command(name="migrate")
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO")
@click.option("--json", "as_json", is_flag=True, help="Say what was done as one JSON object.")
def migrate_command(source: str, target: str, as_json: bool) -> None:
    """Copy all blocks and pins of one store into another: nothing is taken from FROM.

    FROM and TO are what kaplad --store takes: the path of a file, which no daemon may use
    meanwhile, or the URL of a database. TO may be new, or have something already. Whatever
    interrupts it, run it again to go on. Each block is hashed before it goes.
    """
    places = _place("FROM", source), _place("TO", target)
    with progress("Copying the store") as shown:
        done = run(_migrate(*places, shown))
    click.echo(json.dumps(asdict(done)) if as_json else _sentence(done))
    _check(done)


async def _migrate(source: StorePlace, target: StorePlace, shown: Progress) -> Migrated:
    # Loaded by those who do it.
    from kapla.migrating import migrate

    seen = 0

    def tell(so_far: int, of: int) -> None:
        nonlocal seen
        shown.expect(of)
        shown.advance(so_far - seen)
        seen = so_far

    try:
        return await migrate(source, target, tell)
    except StorageError as error:
        raise CommandError(str(error), ExitCode.STORE) from None


def _place(name: str, text: str) -> StorePlace:
    try:
        return parse_place(text)
    except ValueError as error:
        raise CommandError(f"{name}: {error}", ExitCode.USAGE) from None


def _sentence(done: Migrated) -> str:
    copied = f"{blocks_text(done.blocks)} copied ({bytes_text(done.bytes)}), {_there(done.there)}"
    return f"{copied}; {_pins(done.pins)} made, {_there(done.pins_there)}"


def _pins(count: int) -> str:
    return "1 pin" if count == 1 else f"{count:,} pins"


def _there(count: int) -> str:
    return "1 was there" if count == 1 else f"{count:,} were there"


def _check(done: Migrated) -> None:
    """Raises: CommandError, if the target has not all."""
    if done.missing:
        say(f"the pins of FROM lack {blocks_text(done.missing)}, and so do those of TO")
    if done.in_the_way:
        names = ", ".join(done.in_the_way)
        raise CommandError(
            f"pins that were not made, as TO has others of their names: {names}",
            ExitCode.REFUSED,
        )
    if done.bad:
        raise CommandError(
            f"damaged in FROM, and left out: {blocks_text(done.bad)}", ExitCode.DAMAGED
        )
