"""`kapla map verify`: a map compared with what servers sign, and with what is here."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from guix_glue.cli.map.items import items_wanted
from guix_glue.cli.map.reading import loaded
from guix_glue.cli.server_options import acl_option
from kapla.cli.common import CommandError, ExitCode, run, store_option
from kapla.cli.told import told

if TYPE_CHECKING:
    from guix_glue.formats.item_map import Contents, Entry
    from guix_glue.maps.building import Item, ItemEncoder
    from guix_glue.maps.verifying import Tally, Witness
    from guix_glue.publish.tree_formats import TreeFormat

__all__ = ["verify"]


@told(
    (
        "Compare some items of a map with what a server signs",
        "kapla map verify --substitute-urls https://ci.example --sample 99 @items",
    ),
    ("Encode again what is here", "kapla map verify --here items.map"),
    exits=(ExitCode.STORE, ExitCode.MISSING, ExitCode.DAMAGED, ExitCode.REFUSED),
    means={int(ExitCode.DAMAGED): "the map differs from what was found, or is damaged"},
)
@click.command(name="verify", short_help="Compare a map with servers, and with what is here.")
@click.argument("map_", metavar="MAP")
@click.argument("items", metavar="[ITEM]...", nargs=-1)
@click.option(
    "--substitute-urls",
    metavar="URLS",
    help="Servers whose signed narinfos it is compared with, separated by spaces.",
)
@acl_option("Keys whose signatures count")
@click.option(
    "--here",
    is_flag=True,
    help="Encode items again, and compare: those that are named, else all valid ones of this"
    " machine's store.",
)
@click.option(
    "--sample", type=click.IntRange(min=1), metavar="N", help="Only so many items, by lot."
)
@store_option
def verify(
    map_: str,
    items: tuple[str, ...],
    substitute_urls: str | None,
    acl: Path | None,
    here: bool,
    sample: int | None,
    store_url: str | None,
) -> None:
    """Compare what a map says with what is signed by others, or with items that are encoded again.

    A line for each item that differs, and how many were found to be right, to differ, and not to be
    known. An item that differs may still be right: another version of zstd makes another tree.
    """
    if not substitute_urls and not here:
        raise click.UsageError("With what? Give --substitute-urls, --here or both.")
    if items and not here:
        raise click.UsageError("ITEM is for --here.")
    contents, *_ = run(loaded([map_], store_url))
    tally = run(
        _verify(contents, substitute_urls, acl, items_wanted(items, None) if here else (), sample)
    )
    from guix_glue.maps.verifying import Verdict

    counts = ", ".join(f"{tally.counts[one]:,} {one.value}" for one in Verdict)
    click.echo(counts)
    if tally.counts[Verdict.DIFFERS]:
        raise CommandError("the map differs from what was found", ExitCode.DAMAGED)


async def _verify(
    contents: Contents,
    urls: str | None,
    acl: Path | None,
    items: Sequence[Item],
    sample: int | None,
) -> Tally:
    from guix_glue.maps.verifying import Tally, Verdict, judge_all

    tally = Tally()
    async with AsyncExitStack() as stack:
        witnesses: list[tuple[Witness, Sequence[Entry]]] = []
        if urls:
            asked = _chosen(list(contents), sample)
            witnesses.append((await _servers(urls, acl, contents, stack), asked))
        if items:
            there = {one.hash_part: one for one in items}
            asked = _chosen([one for one in contents if _hash_part(one) in there], sample)
            witnesses.append((await _encoders(contents, there, stack), asked))
        for witness, asked in witnesses:
            async with aclosing(judge_all(asked, witness)) as found:
                async for judged in found:
                    tally.add(judged)
                    if judged.verdict is Verdict.DIFFERS:
                        click.echo(f"! {judged.hash_part}")
    return tally


def _chosen(entries: Sequence[Entry], sample: int | None) -> Sequence[Entry]:
    if sample is None or sample >= len(entries):
        return entries
    return random.sample(entries, sample)


def _hash_part(entry: Entry) -> str:
    from guix_glue.formats.item_map import hash_part_at

    return hash_part_at(entry.key)


async def _servers(
    urls: str, acl: Path | None, contents: Contents, stack: AsyncExitStack
) -> Witness:
    from guix_glue.local.authorities import read_authorities
    from guix_glue.local.environment import GuixEnvironment
    from guix_glue.maps.verifying import signed_urn
    from guix_glue.servers.proxies import Proxies
    from guix_glue.servers.url import parse_server
    from guix_glue.upstream.servers import Upstream

    where = GuixEnvironment.from_environ(os.environ)
    servers = [parse_server(url) for url in urls.split()]
    if any(one.origin is None for one in servers):
        raise CommandError("--substitute-urls: http:// and https:// only", ExitCode.USAGE)
    upstream = Upstream(
        servers,
        read_authorities(acl or Path(where.config_dir, "acl"), (), os.environ),
        contents.facts.store_dir or where.store_dir,
        Proxies.from_environ(os.environ),
    )
    stack.push_async_callback(upstream.close)
    return signed_urn(upstream)


async def _encoders(contents: Contents, there: dict[str, Item], stack: AsyncExitStack) -> Witness:
    """What encodes again, in the format that the map says."""
    from guix_glue.cli.map.workers import workers

    trees = _trees_of(contents.facts.trees)
    encoders = await stack.enter_async_context(workers(len(os.sched_getaffinity(0)), trees))
    return _Encoded(encoders, there)


def _trees_of(name: str | None) -> TreeFormat:
    from guix_glue.publish.tree_formats import format_named

    found = format_named(name or "")
    if found is None:
        raise CommandError(
            "the map does not say of which format its trees are, or of one that is not known: items"
            " cannot be encoded again for it",
            ExitCode.USAGE,
        )
    return found


class _Encoded:
    """A witness that encodes, one encoder after the other."""

    def __init__(self, encoders: Sequence[ItemEncoder], there: dict[str, Item]) -> None:
        self._encoders = list(encoders)
        self._there = there
        self._next = 0

    async def __call__(self, hash_part: str) -> str | None:
        from guix_glue.maps.building import NotEncoded

        self._next = (self._next + 1) % len(self._encoders)
        try:
            return await self._encoders[self._next].encode(self._there[hash_part].location)
        except NotEncoded:
            return None
