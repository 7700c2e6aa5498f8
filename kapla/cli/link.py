"""`kapla link`: a URN as a link file."""

from __future__ import annotations

import mimetypes
import os
from typing import Final

import click

from eris.capability import ReadCapability
from kapla.cli.common import (
    CommandError,
    ExitCode,
    connect,
    read_capability,
    run,
    store_option,
    urn_argument,
)
from kapla.cli.output_file import OutputFile
from kapla.cli.progress import LARGEST_SHOWN
from kapla.cli.told import told

__all__ = ["SUFFIX", "command"]

SUFFIX: Final = ".eris"
_ANY: Final = "application/octet-stream"
_TREE: Final = "application/x-eris-fs"
# No other program reads one, and none should take it for the kind above.
_PACKED_TREE: Final = "application/x-kapla-packed"
_DELTA: Final = "application/x-kapla-delta"
_HEAD: Final = 64


@told(
    ("Write a link that others can open", "kapla link @notes notes.eris"),
    exits=(ExitCode.STORE, ExitCode.MISSING, ExitCode.DAMAGED, ExitCode.REFUSED),
)
@click.command(name="link", short_help="Write a URN into a link file.")
@urn_argument
@click.argument("out", metavar="FILE|-")
@click.option("--type", "media_type", help="The media type. Default: by the name, or octet-stream.")
@click.option("--name", help="A name for the content, which is written into the link.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@store_option
def command(
    urn: str, out: str, media_type: str | None, name: str | None, force: bool, store_url: str | None
) -> None:
    """Write a link file, as photo.jpg.eris, that stands for the content of a URN.

    It tells size and media type too. Whoever has it can read the content: it is for its owner alone
    (mode 0600). `kapla open` opens it, and @FILE names it wherever a URN is wanted.
    """
    capability = read_capability(urn)
    output = OutputFile(out, force=force)
    if media_type is not None and not _is_type(media_type):
        raise click.UsageError("--type wants a media type, as image/jpeg.")
    data = run(_make(capability, out, media_type, name, store_url))
    run(_write(output, data))


def _is_type(text: str) -> bool:
    kind, slash, inner = text.partition("/")
    return bool(kind and slash and inner) and text.isprintable() and " " not in text


async def _make(
    capability: ReadCapability,
    out: str,
    media_type: str | None,
    name: str | None,
    store_url: str | None,
) -> bytes:
    from eris.link import Link, format_link
    from eris.sizing import content_size
    from eris.transfer import read_content
    from eris_fs.packed.index import looks_packed
    from kapla.cli.content import Kind, kind_of_head

    async with connect(store_url, capability) as store:
        size = await content_size(store, capability)
        head = await read_content(store, capability, 0, _HEAD)
    if size >= LARGEST_SHOWN:
        # A few blocks can stand for that, and a message for so many digits.
        raise CommandError("the content has more than 2^64 bytes, which no link can tell")
    found = _by_name(name or "") or _by_name(os.path.basename(out).removesuffix(SUFFIX)) or _ANY
    match kind_of_head(head):
        case Kind.TREE:
            found = _PACKED_TREE if looks_packed(head) else _TREE
        case Kind.DELTA:
            found = _DELTA
        case Kind.FILE:
            pass
    try:
        return format_link(
            Link(capability, size, media_type or found, {} if name is None else {"name": name})
        )
    except ValueError as error:
        raise CommandError(str(error), ExitCode.USAGE) from None


def _by_name(name: str) -> str | None:
    kind, encoding = mimetypes.guess_type(name)
    return kind if encoding is None else None


async def _write(output: OutputFile, data: bytes) -> None:
    async with output.open(private=True) as file:
        file.write(data)
