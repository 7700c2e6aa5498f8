"""`kapla open`: what a link file stands for."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from contextlib import suppress
from typing import Any, Final

import click

from eris.base32 import format_base32
from eris.errors import InvalidLink
from eris.link import MAX_LINK_SIZE, Link, parse_link
from eris_fs.model import printable
from kapla.cli.common import (
    CommandError,
    ExitCode,
    connect,
    run,
    standard_input,
    store_option,
    summarized,
)
from kapla.cli.decode import decode_into, read_limit
from kapla.cli.link import SUFFIX
from kapla.cli.target import Target
from kapla.cli.told import told

__all__ = ["command"]

_NAMELESS: Final = "content"


@told(
    ("Decode what a link stands for, beside it", "kapla open --beside notes.eris"),
    ("See what it is", "kapla open --info notes.eris"),
    exits=(ExitCode.STORE, ExitCode.MISSING, ExitCode.DAMAGED, ExitCode.REFUSED),
)
@click.command(name="open", short_help="Decode what a link file stands for.")
@click.argument("file", metavar="FILE|-")
@click.argument("out", metavar="[OUT|-]", required=False)
@click.option("--info", is_flag=True, help="Only say what the link says; asks no store.")
@click.option("--json", "as_json", is_flag=True, help="--info as one JSON object.")
@click.option("--urn", "shows_urn", is_flag=True, help="Only print the URN.")
@click.option("--beside", is_flag=True, help="Decode beside FILE, to its name without .eris.")
@click.option(
    "--with",
    "program",
    metavar="PROGRAM",
    help="Then run this program with the path of the content. Nothing is run without.",
)
@click.option("--force", is_flag=True, help="Replace OUT if it exists, at once and only when done.")
@click.option("--max-size", metavar="SIZE", help="Refuse content of more bytes, as in 10GiB.")
@store_option
@summarized(sends=False, done="decoded")
def command(
    file: str,
    out: str | None,
    info: bool,
    as_json: bool,
    shows_urn: bool,
    beside: bool,
    program: str | None,
    force: bool,
    max_size: str | None,
    store_url: str | None,
) -> None:
    """Decode what a link file (.eris) stands for: a file or a tree.

    Without OUT it goes to a new directory for temporary files, which is yours alone; its path is
    printed. It stays there until somebody deletes it.
    """
    _check_usage(out, info=info or shows_urn, as_json=as_json, beside=beside, program=program)
    link = _read(file)
    if shows_urn:
        click.echo(link.capability.to_urn())
    elif info or as_json:
        facts = _facts(link)
        lines = [json.dumps(facts)] if as_json else _lines(facts)
        for line in lines:
            click.echo(line)
    elif out == "-":
        _decode(link, out, force, max_size, store_url)
    else:
        if beside:
            out = _name_beside(file)
        path = out or os.path.join(tempfile.mkdtemp(prefix="kapla-open-"), _name(file))
        try:
            _decode(link, path, force, max_size, store_url)
        except BaseException:
            if out is None:
                with suppress(OSError):
                    os.rmdir(os.path.dirname(path))
            raise
        click.echo(printable(path))
        if program is not None:
            _run(program, path)


def _check_usage(
    out: str | None, *, info: bool, as_json: bool, beside: bool, program: str | None
) -> None:
    if (info or as_json) and (out or beside or program):
        raise click.UsageError("--info, --json and --urn decode nothing.")
    if out and beside:
        raise click.UsageError("OUT and --beside exclude each other.")
    if out == "-" and program:
        raise click.UsageError("--with is for a file, not for standard output.")


def _decode(link: Link, out: str, force: bool, max_size: str | None, store_url: str | None) -> None:
    target = None if out == "-" else Target(out, force=force)
    limit = read_limit(max_size, target)
    if link.size is not None:
        run(_check_size(link, link.size, store_url))
    run(decode_into(link.capability, out, target, (), False, limit, store_url))


async def _check_size(link: Link, said: int, store_url: str | None) -> None:
    """Whoever wrote the link knew the content: another length is another content.

    Raises: CommandError.
    """
    from eris.sizing import content_size

    async with connect(store_url, link.capability) as store:
        size = await content_size(store, link.capability)
    if size != said:
        raise CommandError(
            f"the link says that the content has {said:,} bytes, and it has {size:,}: the link is"
            " not what it should be",
            ExitCode.DAMAGED,
        )


def _read(name: str) -> Link:
    """Raises: CommandError, OSError."""
    if name == "-":
        data = standard_input().read(MAX_LINK_SIZE + 1)
    else:
        with open(name, "rb") as file:
            data = file.read(MAX_LINK_SIZE + 1)
    try:
        return parse_link(data)
    except InvalidLink as error:
        where = "standard input" if name == "-" else printable(name)
        raise CommandError(f"{where}: {error}", ExitCode.DAMAGED) from None


def _name(file: str) -> str:
    """What the content is called: by the name of the link, which is the user's own."""
    return _NAMELESS if file == "-" else _stem(os.path.basename(file)) or _NAMELESS


def _name_beside(file: str) -> str:
    directory, name = os.path.split(file)
    if not name.endswith(SUFFIX) or not _stem(name):
        raise CommandError(f"--beside wants a file whose name ends in {SUFFIX}", ExitCode.USAGE)
    return os.path.join(directory, _stem(name))


def _stem(name: str) -> str:
    """The name without its end; empty if that is no name of a file: `...eris` is nothing like .."""
    stem = name.removesuffix(SUFFIX)
    return "" if stem in (".", "..") else stem


def _run(program: str, path: str) -> None:
    try:
        done = subprocess.run([program, os.path.abspath(path)], check=False)
    except OSError as error:
        raise CommandError(f"--with: {program}: {error.strerror}", ExitCode.FILE) from None
    if done.returncode:
        raise CommandError(f"{program} ended with {done.returncode}")


def _facts(link: Link) -> dict[str, Any]:
    capability = link.capability
    return {
        "size": link.size,
        "media_type": link.media_type or None,
        "block_size": int(capability.block_size),
        "level": capability.level,
        "reference": format_base32(capability.root.reference),
        "attributes": {name: _plain(value) for name, value in link.attributes.items()},
    }


def _plain(value: Any) -> Any:
    """What JSON knows: bytes as hexadecimal digits, and no number that is none."""
    match value:
        case bytes():
            return value.hex()
        case float() if value != value or value in (float("inf"), float("-inf")):
            return str(value)
        case list():
            return [_plain(one) for one in value]
        case dict():
            return {name: _plain(one) for name, one in value.items()}
        case _:
            return value


def _lines(facts: dict[str, Any]) -> list[str]:
    attributes = facts.pop("attributes")
    labels = {name: name.replace("_", " ") for name in facts}
    shown = [(labels[name], value) for name, value in facts.items() if value is not None]
    for name, value in attributes.items():
        # What the link says of itself is not to be taken for what is so.
        label = f"attribute {name}" if name.strip().casefold() in labels.values() else name
        shown.append((label, value if isinstance(value, str) else json.dumps(value)))
    return [f"{printable(name) + ':':<19} {printable(str(value))}" for name, value in shown]
