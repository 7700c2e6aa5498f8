"""`kapla scrub`: have the daemon read and hash all that it stores."""

from __future__ import annotations

import json

import click

from kapla.amounts import blocks_text
from kapla.caring import Scrubbed, scrub
from kapla.cli.common import CommandError, ExitCode, connect, progress, run, store_option
from kapla.cli.told import told
from kapla.sizes import parse_size

__all__ = ["command"]


@told(
    ("Look at all blocks, slowly enough for others to go on", "kapla scrub --rate '20 MiB'"),
    exits=(ExitCode.STORE, ExitCode.REFUSED),
    means={ExitCode.DAMAGED: "some blocks were bad"},
)
@click.command(name="scrub", short_help="Have the daemon look at all that it stores.")
@click.option(
    "--rate", metavar="RATE", help='Bytes a second, or as in "20 MiB". Default: no limit.'
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object at the end.")
@store_option
def command(rate: str | None, as_json: bool, store_url: str | None) -> None:
    """Have the daemon read and hash every block that it stores, and drop what is bad.

    What is dropped counts as missing, in its pins too, until it is stored again: by encode, or by
    verify --repair. For root, and whoever runs the daemon.
    """
    found = run(_scrub(_read_rate(rate), store_url))
    if as_json:
        click.echo(json.dumps({"blocks": found.blocks, "bytes": found.bytes, "bad": found.bad}))
    else:
        click.echo(f"{blocks_text(found.blocks)}, {found.bad:,} bad")
    if found.bad:
        raise CommandError("some blocks were bad: they are missing now", ExitCode.DAMAGED)


def _read_rate(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        rate = parse_size(int(text) if text.isdecimal() and len(text) < 19 else text)
    except ValueError:
        rate = 0
    if not 0 < rate <= 2**40:
        raise click.BadParameter("a rate is bytes a second, or as in 20 MiB", param_hint="'--rate'")
    return rate


async def _scrub(rate: int | None, store_url: str | None) -> Scrubbed:
    async with connect(store_url) as store:
        with progress("Scrubbing") as shown:
            seen = 0

            def tell(found: Scrubbed) -> None:
                nonlocal seen
                shown.expect(found.of)
                shown.advance(found.bytes - seen)
                seen = found.bytes

            return await scrub(await store.taker(), rate=rate, tell=tell)
