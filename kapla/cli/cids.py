"""`kapla info --cids`: the blocks of a content by the names that IPFS has for them.

They come out as they are found, so that a content of any size needs little memory: as much as it
takes to name each block once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager

import click

import eris_fs
from eris.capability import ReadCapability
from kapla.cli.common import CommandError, ExitCode, connect
from kapla.http.wire.cid import format_cid
from kapla.reference_set import ReferenceSet

__all__ = ["list_cids"]

Write = Callable[[list[str]], None]


async def list_cids(capability: ReadCapability, store_url: str | None, *, as_json: bool) -> None:
    """Write the CID of each block to standard output, the root first, one a line or as JSON.

    Raises: CommandError, when all that is known is written, if blocks are missing that name others.
    """
    async with connect(store_url, capability) as store:
        # Else there would be half a list before it is said that there is nothing.
        await store.get(capability.root.reference, capability.block_size)
        walk = eris_fs.ReferenceWalk(store)
        with _written_as(as_json) as write:
            async with aclosing(_cids(walk, capability)) as batches:
                async for cids in batches:
                    write(cids)
    if walk.unknown:
        noun = "node is" if walk.unknown == 1 else "nodes are"
        text = f"{walk.unknown:,} {noun} missing: which blocks lie below is not known"
        raise CommandError(text, ExitCode.MISSING)


async def _cids(
    walk: eris_fs.ReferenceWalk, capability: ReadCapability
) -> AsyncGenerator[list[str], None]:
    seen = ReferenceSet()
    async with aclosing(walk.content(capability)) as batches:
        async for batch in batches:
            yield [format_cid(reference) for reference, _ in batch if seen.add(reference)]


@contextmanager
def _written_as(as_json: bool) -> Iterator[Write]:
    if not as_json:
        yield lambda cids: click.echo("".join(f"{cid}\n" for cid in cids), nl=False)
        return
    between = ""

    def write(cids: list[str]) -> None:
        nonlocal between
        if cids:
            click.echo(between + ", ".join(f'"{cid}"' for cid in cids), nl=False)
            between = ", "

    click.echo('{"cids": [', nl=False)
    yield write
    click.echo("]}")
