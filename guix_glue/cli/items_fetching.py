"""What `kapla items fetch` does: reads lists, asks servers, and has items brought where they go."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from eris.capability import ReadCapability
from eris.threads import in_thread
from eris.transfer import stream_content
from guix_glue.cli.items_options import GuixKey, hash_part_named, store_directory
from guix_glue.cli.items_target import Target, open_target
from guix_glue.cli.maps import open_hints
from guix_glue.cli.stores import stores_given
from guix_glue.closures.asking import ask_closure
from guix_glue.closures.belief import Belief
from guix_glue.closures.bringing import bring
from guix_glue.closures.nars import Nars
from guix_glue.closures.wanted import Wanted, joined, vouched_for
from guix_glue.errors import FetchFailed, HashMismatch, InvalidItemList, NotVouchedFor
from guix_glue.formats.item_list import LIST_MAGIC, MAX_LIST_SIZE, parse_item_list
from guix_glue.local.authorities import read_authorities, read_nix_keys
from guix_glue.local.environment import GuixEnvironment
from guix_glue.servers.url import Server
from guix_glue.trust.authorities import Authorities
from guix_glue.trust.nix_keys import NixPublicKey
from kapla.amounts import bytes_text
from kapla.cli.common import CommandError, ExitCode, Store, connect, progress
from kapla.cli.exit_codes import exit_code
from kapla.cli.store import say
from kapla.client import default_store_urls
from kapla.urls import StoreUrl

if TYPE_CHECKING:
    from guix_glue.sources.hints import Hints
    from guix_glue.upstream.servers import Upstream

__all__ = ["Fetching", "How"]

_AUTHORIZE: Final = (
    "authorize the key of whoever made the list (kapla signing-key authorize, or"
    " --trusted-public-keys for Nix)"
)


@dataclass(frozen=True, slots=True)
class How:
    """What the options say."""

    lists: tuple[ReadCapability, ...] = field(repr=False)
    items: tuple[str, ...]
    output: str | None
    force: bool
    into_store: bool
    dry_run: bool
    servers: tuple[Server, ...]
    maps: tuple[str, ...] = field(repr=False)
    store_dir: str | None
    acl: Path | None
    nix_keys: tuple[NixPublicKey, ...]
    checks: bool
    key: GuixKey
    max_size: int | None


class Fetching:
    """One run."""

    def __init__(self, how: How, environment: GuixEnvironment) -> None:
        self._how = how
        self._environment = environment

    async def run(self, store_url: str | None) -> None:
        """Fetch what is wanted. Raises: CommandError; ErisError; OSError."""
        how = self._how
        belief = Belief(self._authorities(), how.checks)
        async with AsyncExitStack() as stack:
            store: Store | None = None
            if self._has_store(store_url):
                store = await stack.enter_async_context(connect(store_url, *how.lists))
            upstream, hints = await self._servers(belief, store, stack)
            asked, names = await self._listed(store, belief)
            target = self._target(asked, belief, stack)
            if upstream is not None:
                asked.append(await self._asked(upstream, belief, target))
            wanted = joined(asked)
            left = await target.left(wanted)
            await target.check(wanted, left, how.max_size)
            if how.dry_run:
                _tell(wanted, left)
                return
            await self._bring(wanted, left, Nars(store, upstream, hints), target)
            await target.finish()
            if how.into_store:
                hash_parts = self._hash_parts()
                for one in wanted:
                    if one.item.base_name in names or one.item.hash_part in hash_parts:
                        click.echo(one.item.path)

    async def _servers(
        self, belief: Belief, store: Store | None, stack: AsyncExitStack
    ) -> tuple[Upstream | None, Hints | None]:
        """Whom to ask for items by their names, and who may know where their blocks are."""
        how, authorities = self._how, belief.authorities
        if not how.servers:
            return None, None
        # It brings aiohttp, which lists do without.
        from guix_glue.servers.proxies import Proxies
        from guix_glue.upstream.servers import Choice, Upstream

        choice = Choice.FASTEST
        if not how.checks:
            # Then the first server is taken at its word.
            authorities = Authorities()
        elif not authorities.has_keys:
            choice = Choice.IN_ORDER
        proxies = Proxies.from_environ(os.environ)
        upstream = Upstream(how.servers, authorities, self._store_dir, proxies, choice=choice)
        stack.push_async_callback(upstream.close)
        hints = await stack.enter_async_context(open_hints(how.maps, store, proxies, say))
        return upstream, hints

    def _authorities(self) -> Authorities:
        """The keys that count; of Guix none, where the list of them is for root alone."""
        path = self._how.acl or Path(self._environment.config_dir, "acl")
        if self._how.acl is None and not os.access(path, os.R_OK):
            if os.path.lexists(path):
                say(f"keys of Guix do not count: {path} is not for us to read; see --acl")
            return Authorities(nix_keys=read_nix_keys(self._how.nix_keys, os.environ))
        return read_authorities(path, self._how.nix_keys, os.environ)

    @property
    def _store_dir(self) -> str:
        """Where the items that are named belong."""
        given = store_directory(self._how.store_dir, self._how.items, os.environ)
        return given or self._environment.store_dir

    def _has_store(self, store_url: str | None) -> bool:
        """Whether there are blocks to ask for: without a list there need not be."""
        if self._how.lists:
            return True
        given = stores_given([store_url] if store_url else [], os.environ)
        if given:
            return True
        return given is not None and any(map(_is_there, default_store_urls()))

    def _hash_parts(self) -> set[str]:
        return {hash_part_named(name, self._store_dir) for name in self._how.items}

    async def _listed(
        self, store: Store | None, belief: Belief
    ) -> tuple[list[list[Wanted]], set[str]]:
        """What the lists name, and the base names that they were made for."""
        found: list[list[Wanted]] = []
        names: set[str] = set()
        for capability in self._how.lists:
            assert store is not None
            text = await _read_list(store, capability)
            items = await in_thread(parse_item_list, text)
            try:
                found.append(await in_thread(vouched_for, items, belief))
            except NotVouchedFor as error:
                raise CommandError(f"{error}: {_AUTHORIZE}", ExitCode.DAMAGED) from error
            names.update(items.wanted)
        return found, names

    def _target(
        self, asked: Sequence[Sequence[Wanted]], belief: Belief, stack: AsyncExitStack
    ) -> Target:
        """Where the items go: to which store shows by the lists, or else by the options."""
        listed = next((part[0].item.store_dir for part in asked if part), None)
        how = self._how
        return open_target(
            listed or self._store_dir,
            self._environment,
            belief,
            how.key,
            stack,
            output=None if how.dry_run else how.output,
            force=how.force,
            into_store=how.into_store,
        )

    async def _asked(self, upstream: Upstream, belief: Belief, target: Target) -> list[Wanted]:
        """What servers tell of the items that are named."""
        hash_parts = sorted(self._hash_parts())
        return await ask_closure(upstream, hash_parts, belief, target.valid)

    async def _bring(
        self, wanted: Sequence[Wanted], left: Sequence[Wanted], nars: Nars, target: Target
    ) -> None:
        total = sum(one.item.nar_size for one in left)
        counted = "an item" if len(left) == 1 else f"{len(left)} items"
        with progress(f"Fetching {counted}", total) as shown:
            try:
                await bring(left, nars, target.sink, target.sign, shown.advance)
            except FetchFailed as error:
                cause = error.__cause__ or error
                code = ExitCode.DAMAGED if isinstance(cause, HashMismatch) else exit_code(cause)
                raise CommandError(f"{error}; {target.advice}", code) from error


def _is_there(store: StoreUrl) -> bool:
    """Whether a daemon of this machine may listen."""
    path = getattr(store.endpoint, "path", None)
    return path is not None and os.path.exists(path)


async def _read_list(store: Store, capability: ReadCapability) -> bytes:
    """The content of a list. Raises: InvalidItemList, as soon as it shows that it is none."""
    text = bytearray()
    async with aclosing(stream_content(store, capability)) as pieces:
        async for piece in pieces:
            text += piece
            if not text.startswith(LIST_MAGIC[: len(text)]):
                raise InvalidItemList(
                    "this is another content; the last line of kapla items encode is the URN of one"
                )
            if len(text) > MAX_LIST_SIZE:
                raise InvalidItemList(f"it has more than {MAX_LIST_SIZE} bytes")
    return bytes(text)


def _tell(wanted: Sequence[Wanted], left: Sequence[Wanted]) -> None:
    """Say what would be fetched."""
    for one in left:
        click.echo(f"{one.item.path} {one.item.nar_size}")
    size = bytes_text(sum(one.item.nar_size for one in left))
    there = len(wanted) - len(left)
    more = f"; {there} more are in the store" if there else ""
    say(f"to fetch: {len(left)} items, {size}{more}")
