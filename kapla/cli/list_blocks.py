"""`kapla list-blocks`: which blocks a store has, for `kapla export --missing-from` elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing, contextmanager

import click

from eris.errors import StoreRefused
from kapla.block_list import LIST_HEAD, format_references
from kapla.cli.common import CommandError, ExitCode, connect, progress, run, store_option
from kapla.cli.output_file import OutputFile
from kapla.cli.told import told
from kapla.client import RemoteStore, StoreList
from kapla.errors import NotAllowed

__all__ = ["command"]


@told(
    ("Write down what a store has, to carry it to another", "kapla list-blocks there.list"),
    exits=(ExitCode.STORE, ExitCode.REFUSED),
)
@click.command(name="list-blocks", short_help="Write a list of all that a store has.")
@click.argument("file", metavar="[FILE|-]", default="-")
@click.option("--force", is_flag=True, help="Replace FILE if it exists, at once and when done.")
@store_option
def command(file: str, force: bool, store_url: str | None) -> None:
    """Write the references of all blocks in the store into FILE, or to standard output.

    For kapla export --missing-from on another machine. Only for administrators: root and whoever
    runs the daemon, and on TCP a listener with the flag admin.
    """
    output = OutputFile(file, force=force)
    count = run(_list(output, store_url))
    if not output.is_stream:
        click.echo(f"{count:,} blocks listed")


async def _list(output: OutputFile, store_url: str | None) -> int:
    count = 0
    async with connect(store_url) as store:
        if isinstance(store, StoreList):
            raise CommandError("one store can be listed at a time: see --store-url", ExitCode.USAGE)
        if not isinstance(store, RemoteStore):
            raise CommandError(f"{store.url} does not list its blocks", ExitCode.REFUSED)
        async with output.open(private=True) as file:
            with _refusals_of(store), progress("Listing") as shown:
                file.write(LIST_HEAD)
                async with aclosing(store.list_blocks()) as pages:
                    async for references in pages:
                        data = format_references(references)
                        file.write(data)
                        shown.advance(len(data))
                        count += len(references)
    return count


@contextmanager
def _refusals_of(store: RemoteStore) -> Iterator[None]:
    try:
        yield
    except NotAllowed:
        raise CommandError(
            f"{store.url} lists its blocks only for root and for whoever runs it, and on TCP where"
            " its listener has the flag admin",
            ExitCode.REFUSED,
        ) from None
    except StoreRefused:
        # Another program's store: it knows no such path.
        raise CommandError(
            f"{store.url} cannot list its blocks: it is no kaplad, or an older one",
            ExitCode.REFUSED,
        ) from None
