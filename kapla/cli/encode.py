"""`kapla encode`: file, tree or standard input -> URN."""

from __future__ import annotations

import os
import stat
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import BinaryIO

import click

import eris_fs
from eris.capability import ReadCapability
from eris.model import BlockSize, ConvergenceSecret
from eris.store import BlockWriter, NullStore
from eris.transfer import put_content
from kapla.cli.common import (
    CommandError,
    Counted,
    Store,
    connect,
    progress,
    run,
    shows_progress,
    store_option,
)

__all__ = ["command"]

_BLOCK_SIZES = {"auto": None, "1KiB": BlockSize.SMALL, "32KiB": BlockSize.LARGE}


@click.command(name="encode")
@click.argument("path", metavar="PATH|-")
@click.option(
    "--block-size",
    type=click.Choice(list(_BLOCK_SIZES), case_sensitive=False),
    default="auto",
    show_default=True,
    help="auto: 1 KiB for content below 16 KiB, else 32 KiB. Of a tree: for every file and the"
    " index.",
)
@click.option("--unique", is_flag=True, help="Encrypt so that equal content gets another URN.")
@click.option(
    "--convergence-secret",
    "secret_file",
    metavar="FILE",
    help="Only those who have the 32 bytes in FILE get the same URN for the same content.",
)
@click.option("--no-store", is_flag=True, help="Only compute the URN; needs no daemon.")
@store_option
def command(
    path: str,
    block_size: str,
    unique: bool,
    secret_file: str | None,
    no_store: bool,
    store_url: str | None,
) -> None:
    """Encode a file, a directory tree or standard input (-) into the store; print its URN.

    Whoever has the URN can read the content. Standard input and a single file become plain content,
    a directory becomes an ERIS-FS tree.
    """
    if unique and secret_file is not None:
        raise click.UsageError("--unique and --convergence-secret exclude each other.")
    secret = ConvergenceSecret.null()
    if unique:
        secret = ConvergenceSecret.unique()
    elif secret_file is not None:
        secret = _read_secret(secret_file)
    capability = run(_encode(path, _BLOCK_SIZES[block_size], secret, no_store, store_url))
    click.echo(capability.to_urn())


def _read_secret(name: str) -> ConvergenceSecret:
    with open(name, "rb") as file:
        data = file.read(33)
    if len(data) != 32:
        found = "more" if len(data) > 32 else str(len(data))
        raise CommandError(f"{name}: a convergence secret is 32 bytes, the file holds {found}", 2)
    return ConvergenceSecret(data)


async def _encode(
    path: str,
    block_size: BlockSize | None,
    secret: ConvergenceSecret,
    no_store: bool,
    store_url: str | None,
) -> ReadCapability:
    async with AsyncExitStack() as stack:
        store: BlockWriter = NullStore()
        if not no_store:
            remote: Store = connect(store_url)
            store = await stack.enter_async_context(remote)
        if path == "-":
            return await _encode_file(store, sys.stdin.buffer, "standard input", block_size, secret)
        if os.path.isdir(path):
            return await _encode_tree(store, Path(path), block_size, secret)
        with open(path, "rb", buffering=0) as file:
            return await _encode_file(store, file, path, block_size, secret)


async def _encode_file(
    store: BlockWriter,
    file: BinaryIO,
    name: str,
    block_size: BlockSize | None,
    secret: ConvergenceSecret,
) -> ReadCapability:
    status = os.fstat(file.fileno())
    total = status.st_size if stat.S_ISREG(status.st_mode) else None
    with progress(f"Encoding {name}", total) as shown:
        return await put_content(
            store,
            Counted.wrap(file, shown),
            block_size=block_size,
            convergence_secret=secret,
        )


async def _encode_tree(
    store: BlockWriter, path: Path, block_size: BlockSize | None, secret: ConvergenceSecret
) -> ReadCapability:
    # Looking through the tree twice costs little, but only a person asks how long it takes.
    total = eris_fs.measure_tree(path).size if shows_progress() else None
    with progress(f"Encoding {path}", total) as shown:
        return await eris_fs.put_tree(
            store,
            path,
            block_size=block_size,
            convergence_secret=secret,
            progress=shown.reach,
        )
