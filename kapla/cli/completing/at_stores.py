"""What only a store knows: the paths in a tree, and the names of pins. Asked within a second.

Whoever completes waits at a prompt: what takes longer, or fails, completes nothing. Nothing that is
told is kept: the names in a tree are private.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterable
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from kapla.cli.completing.files import OPEN

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from eris.capability import ReadCapability
    from kapla.cli.store import Store

__all__ = ["next_steps", "paths_like", "pins_like"]

_T = TypeVar("_T")

_LONGEST_S: Final = 1.0
_MOST: Final = 500
# An index with more bytes is cut off, and so is none.
_MOST_CONTENT: Final = 32 * 2**20


def paths_like(urn: object, store_url: object, text: str) -> list[CompletionItem[str]]:
    """The paths in the tree of a URN argument that begin so, up to the next slash."""
    from click.shell_completion import CompletionItem

    # Whatever goes wrong, there is nothing to complete.
    with suppress(Exception):
        capability = _capability(urn)
        if capability is not None:
            return [
                CompletionItem(path, type=OPEN if path.endswith("/") else "plain")
                for path in next_steps(_paths(capability, store_url), text)
            ]
    return []


def pins_like(store_url: object, text: str) -> list[CompletionItem[str]]:
    """The pins that one may see whose names begin so."""
    from click.shell_completion import CompletionItem

    with suppress(Exception):
        return [CompletionItem(name) for name in _pins(store_url) if name.startswith(text)][:_MOST]
    return []


def next_steps(paths: Iterable[str], text: str) -> list[str]:
    """Of the paths that begin so each as far as its next slash, which is the end of a directory."""
    steps: dict[str, None] = {}
    for path in paths:
        if path.startswith(text):
            end = path.find("/", len(text))
            steps[path if end < 0 else path[: end + 1]] = None
            if len(steps) >= _MOST:
                break
    return sorted(steps)


def _capability(urn: object) -> ReadCapability | None:
    """What a URN argument stands for; standard input is not read for this."""
    from eris.capability import ReadCapability
    from kapla.catalogue.glance import glance_at_versions
    from kapla.catalogue.names import parse_version

    if not isinstance(urn, str) or urn == "-":
        return None
    if not urn.startswith("@"):
        return ReadCapability.from_urn(urn)
    if wanted := parse_version(urn[1:]):
        for entry in glance_at_versions(wanted[0]):
            if entry.version == wanted[1]:
                return ReadCapability.from_urn(entry.urn)
    # Whoever opens a pipe waits for who writes to it.
    if not os.path.isfile(urn[1:]):
        return None
    from kapla.cli.urn import read_capability

    return read_capability(f"@{os.path.abspath(urn[1:])}")


def _paths(capability: ReadCapability, store_url: object) -> list[str]:
    """All paths in a tree; those of empty directories end with a slash."""
    import eris_fs
    from eris.transfer import stream_content

    async def load(store: Store) -> eris_fs.Tree:
        async with aclosing(stream_content(store, capability, stop=_MOST_CONTENT)) as pieces:
            return await eris_fs.read_tree(pieces)

    return [
        "/".join(path) + ("/" if isinstance(entry, eris_fs.EmptyDirectory) else "")
        for path, entry in _asked(store_url, load).items()
    ]


def _pins(store_url: object) -> list[str]:
    from kapla.pinning import Pins

    async def load(store: Store) -> list[str]:
        return [pin.name async for pin in Pins(await store.taker()).list()]

    return _asked(store_url, load)


def _asked(store_url: object, ask: Callable[[Store], Coroutine[Any, Any, _T]]) -> _T:
    """What the store answers, if it does at once."""
    import asyncio

    from kapla.client import default_store_urls, open_store

    urls = default_store_urls(store_url if isinstance(store_url, str) else None)

    async def run() -> _T:
        async with (
            asyncio.timeout(_LONGEST_S),
            open_store(urls, timeout_s=_LONGEST_S, connect_timeout_s=_LONGEST_S) as store,
        ):
            return await ask(store)

    return asyncio.run(run())
