"""`kapla ls`: the paths of a tree."""

from __future__ import annotations

import json
from typing import Any, assert_never

import click

import eris_fs
from kapla.cli.common import connect, read_capability, run, store_option, urn_argument
from kapla.cli.content import require_tree
from kapla.cli.outcome import ExitCode
from kapla.cli.told import told

__all__ = ["command"]


@told(
    ("See what is in a tree", "kapla ls @notes"),
    ("With kinds, and targets of symlinks", "kapla ls -l @notes"),
    exits=(ExitCode.STORE, ExitCode.MISSING, ExitCode.DAMAGED, ExitCode.REFUSED),
)
@click.command(name="ls", short_help="List what is in a tree.")
@urn_argument
@click.option("-l", "long", is_flag=True, help="Kind (-, x executable, l symlink, d) and target.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each entry.")
@store_option
def command(urn: str, long: bool, as_json: bool, store_url: str | None) -> None:
    """List the paths in a tree without unpacking it. Only the index is fetched.

    Directories appear through what is in them, and on their own only when empty.
    """
    capability = read_capability(urn)

    async def load() -> eris_fs.Tree:
        async with connect(store_url, capability) as store:
            return await require_tree(store, capability)

    tree = run(load())
    for path in sorted(tree):
        click.echo(_json_line(path, tree[path]) if as_json else _line(path, tree[path], long))


def _kind(entry: eris_fs.Entry) -> tuple[str, str]:
    match entry:
        case eris_fs.RegularFile(executable=True) | eris_fs.PackedFile(executable=True):
            return "x", "executable"
        case eris_fs.RegularFile() | eris_fs.PackedFile():
            return "-", "file"
        case eris_fs.Symlink():
            return "l", "symlink"
        case eris_fs.EmptyDirectory():
            return "d", "directory"
        case _ as never:
            assert_never(never)


def _line(path: eris_fs.Path, entry: eris_fs.Entry, long: bool) -> str:
    text = eris_fs.show_path(path)
    if isinstance(entry, eris_fs.EmptyDirectory):
        text += "/"
    if not long:
        return text
    if isinstance(entry, eris_fs.Symlink):
        text += f" -> {eris_fs.printable(entry.target)}"
    return f"{_kind(entry)[0]} {text}"


def _json_line(path: eris_fs.Path, entry: eris_fs.Entry) -> str:
    fields: dict[str, Any] = {"path": list(path), "kind": _kind(entry)[1]}
    if isinstance(entry, eris_fs.PackedFile):
        fields["size"] = entry.size
    if isinstance(entry, eris_fs.Symlink):
        fields["target"] = entry.target
    return json.dumps(fields)
