"""`kapla info`: what a URN stands for, without writing its content."""

from __future__ import annotations

import json
from typing import Any

import click

import eris_fs
from eris.capability import ReadCapability
from eris.node import block_count
from eris.transfer import content_length
from kapla.cli.common import connect, read_capability, run, store_option, urn_argument
from kapla.cli.content import load_tree, names_tree

__all__ = ["command"]


@click.command(name="info")
@urn_argument
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@store_option
def command(urn: str, as_json: bool, store_url: str | None) -> None:
    """Show block size, level, size, kind and number of blocks of a content.

    Of a tree: of its index, and how many entries it has. Fetches one block a level, and the index.
    """
    facts = run(_info(read_capability(urn), store_url))
    if as_json:
        click.echo(json.dumps(facts))
        return
    for name, value in facts.items():
        click.echo(f"{name.replace('_', ' ') + ':':<20}{value}")


async def _info(capability: ReadCapability, store_url: str | None) -> dict[str, Any]:
    async with connect(store_url) as store:
        length = await content_length(store, capability)
        facts: dict[str, Any] = {
            "kind": "file",
            "size": length,
            "block_size": int(capability.block_size),
            "level": capability.level,
            "blocks": block_count(length, capability.block_size),
        }
        if await names_tree(store, capability):
            tree = await load_tree(store, capability)
            files = [entry for entry in tree.values() if isinstance(entry, eris_fs.RegularFile)]
            facts["kind"] = "tree"
            facts["files"] = len(files)
            facts["executables"] = sum(file.executable for file in files)
            facts["symlinks"] = _count(tree, eris_fs.Symlink)
            facts["empty_directories"] = _count(tree, eris_fs.EmptyDirectory)
        return facts


def _count(tree: eris_fs.Tree, kind: type) -> int:
    return sum(isinstance(entry, kind) for entry in tree.values())
