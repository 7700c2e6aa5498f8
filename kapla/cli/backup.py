"""`kapla backup`: a copy of the whole store, beside the running daemon."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import click

from eris.threads import settle, start_in_thread
from kapla.amounts import bytes_text
from kapla.caring import database_path
from kapla.cli.common import CommandError, ExitCode, Store, connect, progress, run, store_option
from kapla.cli.told import told
from kapla.errors import StorageError
from kapla.urls import FileEndpoint, UnixEndpoint

__all__ = ["command"]


@told(
    ("Copy the store to another disk", "kapla backup /mnt/backup/blocks.sqlite"),
    exits=(ExitCode.STORE, ExitCode.REFUSED),
)
@click.command(name="backup", short_help="Copy the whole store to a file, while it is used.")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@store_option
def command(file: Path, store_url: str | None) -> None:
    """Copy the whole store, pins included, to a new file, while the daemon goes on.

    The copy is one moment of the store, and is a store itself: kaplad --store FILE serves it. On
    the daemon's machine, for root and whoever runs the daemon, who may read its file. FILE must not
    be there.
    """
    size = run(_backup(file.absolute(), store_url))
    click.echo(bytes_text(size))


async def _database(store: Store) -> Path:
    """Where the file is that is to be copied. Raises: CommandError, StoreError."""
    if len(store.urls) == 1 and isinstance(store.urls[0].endpoint, FileEndpoint):
        # To copy it takes no lock.
        await store.connect()
        return store.urls[0].endpoint.path
    taker = await store.taker()
    if not isinstance(taker.url.endpoint, UnixEndpoint):
        raise CommandError(
            "a backup is made on the daemon's machine, by its Unix socket", ExitCode.USAGE
        )
    return await database_path(taker)


async def _backup(file: Path, store_url: str | None) -> int:
    async with connect(store_url) as store:
        database = await _database(store)
    # Loaded only here.
    from kapla.storage.sqlite.care.backup import back_up

    ended = threading.Event()
    with progress("Copying the store") as shown:
        seen = 0

        def tell(done: int, of: int) -> bool:
            nonlocal seen
            shown.expect(of)
            shown.advance(done - seen)
            seen = done
            return not ended.is_set()

        running = start_in_thread(back_up, database, file, tell)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            ended.set()
            await settle(running)
            raise
        except StorageError as error:
            raise CommandError(str(error), ExitCode.FILE) from None
