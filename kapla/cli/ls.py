"""`kapla ls`: what is in a tree, and how large it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, assert_never

import click

import eris_fs
from eris.capability import ReadCapability
from eris.errors import BlockNotFound
from kapla.amounts import bytes_text
from kapla.cli.common import (
    CommandError,
    ExitCode,
    connect,
    read_capability,
    run,
    store_option,
    urn_argument,
)
from kapla.cli.content import require_tree
from kapla.cli.in_tree import no_such_path, tree_path
from kapla.cli.told import told

__all__ = ["command"]

_Rows = dict[eris_fs.Path, eris_fs.Entry | None]


class _Listing(NamedTuple):
    rows: _Rows
    found: eris_fs.FoundSizes


@told(
    ("See what is in a tree", "kapla ls @notes"),
    ("With kinds, and targets of symlinks", "kapla ls -l @notes"),
    exits=(ExitCode.STORE, ExitCode.MISSING, ExitCode.DAMAGED, ExitCode.REFUSED),
)
@click.command(name="ls", short_help="List what is in a tree.")
@urn_argument
@click.argument("paths", metavar="[PATH-IN-TREE]...", nargs=-1)
@click.option(
    "-l",
    "long",
    is_flag=True,
    help="Also kind (- file, x executable, l symlink, d directory), size, and target of a symlink.",
)
@click.option("-R", "deep", is_flag=True, help="All that is below, instead of one directory.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each entry.")
@store_option
def command(
    urn: str,
    paths: tuple[str, ...],
    long: bool,
    deep: bool,
    as_json: bool,
    store_url: str | None,
) -> None:
    """List a directory of a tree, or all that is in it, without unpacking it.

    Each line is a path from the top of the tree, as cat and decode --path take it; directories end
    with a slash. With -R a directory appears through what is in it, and on its own only when empty.

    Only the index is fetched; with -l, of a tree that is not packed, also the last block of each
    file that is listed, which tells its size.
    """
    capability = read_capability(urn)
    rows, found = run(_load(capability, [tree_path(path) for path in paths], deep, long, store_url))
    sizes = found.sizes
    if as_json:
        for path, entry in rows.items():
            click.echo(_json_line(path, entry, sizes))
    elif long:
        width = max(
            (len(_size_text(path, entry, sizes)) for path, entry in rows.items()), default=0
        )
        for path, entry in rows.items():
            size = _size_text(path, entry, sizes).rjust(width)
            click.echo(f"{_kind(entry)[0]}  {size}  {_name(path, entry)}{_target(entry)}")
    else:
        for path, entry in rows.items():
            click.echo(_name(path, entry))
    if found.failures:
        raise _incomplete(found)


async def _load(
    capability: ReadCapability,
    paths: Sequence[eris_fs.Path],
    deep: bool,
    long: bool,
    store_url: str | None,
) -> _Listing:
    async with connect(store_url, capability) as store:
        tree = await require_tree(store, capability)
        rows: _Rows = {}
        for path in paths or [()]:
            rows |= _rows(tree, path, deep)
        if long or isinstance(tree, eris_fs.PackedTree):
            return _Listing(rows, await eris_fs.find_sizes(store, tree, rows))
        return _Listing(rows, eris_fs.FoundSizes({}, {}))


def _rows(tree: eris_fs.Tree, path: eris_fs.Path, deep: bool) -> _Rows:
    """What one path stands for: the entry itself, or what is in the directory.

    Raises: CommandError.
    """
    entry = tree.get(path)
    if path and isinstance(entry, eris_fs.RegularFile | eris_fs.PackedFile | eris_fs.Symlink):
        return {path: entry}
    if not eris_fs.is_directory(tree, path) and path:
        raise no_such_path(tree, path)
    if deep:
        return dict(eris_fs.entries_below(tree, path))
    return eris_fs.entries_in(tree, path) if entry is None or not path else {}


def _incomplete(found: eris_fs.FoundSizes) -> CommandError:
    """What to say of files whose size could not be learnt."""
    failures = list(found.failures.items())
    path, error = failures[0]
    others = f", and that of {len(failures) - 1:,} others" if len(failures) > 1 else ""
    code = ExitCode.MISSING if isinstance(error, BlockNotFound) else ExitCode.DAMAGED
    return CommandError(
        f"the size of {eris_fs.show_path(path)} is not known{others}: {error}", code
    )


def _kind(entry: eris_fs.Entry | None) -> tuple[str, str]:
    match entry:
        case eris_fs.RegularFile(executable=True) | eris_fs.PackedFile(executable=True):
            return "x", "executable"
        case eris_fs.RegularFile() | eris_fs.PackedFile():
            return "-", "file"
        case eris_fs.Symlink():
            return "l", "symlink"
        case eris_fs.EmptyDirectory() | None:
            return "d", "directory"
        case _ as never:
            assert_never(never)


def _name(path: eris_fs.Path, entry: eris_fs.Entry | None) -> str:
    text = eris_fs.show_path(path)
    return f"{text}/" if entry is None or isinstance(entry, eris_fs.EmptyDirectory) else text


def _target(entry: eris_fs.Entry | None) -> str:
    return f" -> {eris_fs.printable(entry.target)}" if isinstance(entry, eris_fs.Symlink) else ""


def _size_text(
    path: eris_fs.Path, entry: eris_fs.Entry | None, sizes: dict[eris_fs.Path, int]
) -> str:
    if not isinstance(entry, eris_fs.RegularFile | eris_fs.PackedFile):
        return ""
    return bytes_text(sizes[path]) if path in sizes else "?"


def _json_line(
    path: eris_fs.Path, entry: eris_fs.Entry | None, sizes: dict[eris_fs.Path, int]
) -> str:
    fields: dict[str, Any] = {"path": list(path), "kind": _kind(entry)[1]}
    if path in sizes:
        fields["size"] = sizes[path]
    if isinstance(entry, eris_fs.Symlink):
        fields["target"] = entry.target
    return json.dumps(fields)
