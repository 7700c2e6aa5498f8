"""Maps as options name them: `--map URN|FILE|URL`, for whoever follows hints."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

import click

from eris.errors import ErisError
from guix_glue.errors import reason_of
from kapla.cli.common import CommandError, read_capability

if TYPE_CHECKING:
    from eris.store import BlockReader
    from guix_glue.maps.hints import MapHints
    from guix_glue.maps.port import Map
    from guix_glue.servers.proxies import Proxies

__all__ = ["map_option", "open_hints", "open_named"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_VARIABLE: Final = "KAPLA_MAPS"


def map_option(command: Callable[_P, _T]) -> Callable[_P, _T]:
    """Add `--map` to a command, which gets all that are given as `maps`."""

    def read(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
        return values or tuple(os.environ.get(_VARIABLE, "").split())

    return click.option(
        "--map",
        "maps",
        metavar="URN|FILE|URL",
        multiple=True,
        callback=read,
        help="A map that may know the URN of an item for which nobody signed one. Several are asked"
        " at once, and the URN of the first is tried first. Whatever comes is compared with the"
        f" signed hash. Rather than a URN give @FILE. Also: ${_VARIABLE}, separated by spaces.",
    )(command)


@asynccontextmanager
async def open_hints(
    texts: Sequence[str],
    store: BlockReader | None,
    proxies: Proxies,
    tell: Callable[[str], None],
) -> AsyncIterator[MapHints | None]:
    """Maps in order of preference, while the context lasts; None where there are none.

    `store` is where blocks are; without it there is nothing to fetch by a hint. A map that makes no
    sense is left out: `tell` is called with a line that says so, and later with one for each that
    is passed over for a while.
    """
    if not texts or store is None:
        yield None
        return
    from guix_glue.maps.hints import MapHints
    from guix_glue.maps.opened import open_map

    maps = []
    for number, text in enumerate(texts, 1):
        try:
            maps.append(await open_map(_resolved(text), lambda: store, number, proxies))
        except (ErisError, CommandError, OSError) as error:
            tell(f"map {number} is left out: {reason_of(error)}")
    hints = MapHints(maps, tell=tell)
    try:
        yield hints
    finally:
        await hints.close()


async def open_named(text: str, store: Callable[[], BlockReader | None], proxies: Proxies) -> Map:
    """Open the one map that a command works on; to be closed.

    `store` is called if it is in blocks.
    Raises: InvalidMap, MapUnusable, InvalidCapability, CommandError, OSError.
    """
    from guix_glue.maps.opened import open_map

    return (await open_map(_resolved(text), store, 1, proxies)).map


def _resolved(text: str) -> str:
    """What a user names: `@FILE` and `@NAME` stand for the URN that is there.

    Raises: InvalidCapability, CommandError, OSError.
    """
    is_urn = text.startswith("@") or text[:4].lower() == "urn:"
    return read_capability(text).to_urn() if is_urn else text
