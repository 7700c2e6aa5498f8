"""A process that encodes one item after the other, for `kapla map build`.

It is told what to do on standard input, in texts that end with a zero byte: the settings, and then
the place of one item after the other. It answers each with a line on standard output: `= URN`, or
`! ` and why there is none, or `? ` and what a store says that fails. It ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import asynccontextmanager, suppress
from io import BufferedReader
from typing import Any, ParamSpec, TypeVar

from eris.capability import ReadCapability
from eris.errors import ErisError, StoreError
from eris.store import NullStore
from eris.threads import work_done_by
from eris_fs import printable
from guix_glue.publish.tree_formats import PackedTrees, StandardTrees, TreeFormat
from kapla.client import default_store_urls, open_store
from kapla.errors import PinsUnsupported
from kapla.pinning import Pins

__all__ = ["main"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_Encode = Callable[[str], Awaitable[ReadCapability]]


def main() -> None:
    """Work until there is no more."""
    # A key that is typed is for the program that started this one, which closes our input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    told = _texts(os.fdopen(0, "rb", closefd=False))
    settings = next(told, None)
    # Else nobody waits any more: whoever started this one has ended.
    if settings is not None:
        with suppress(BrokenPipeError):
            asyncio.run(_work(json.loads(settings), told))


async def _work(settings: dict[str, Any], told: Iterator[bytes]) -> None:
    """Encode what comes, one after the other: between two items there is nothing else to do."""
    level = settings["level"]
    trees = StandardTrees() if level is None else PackedTrees(level)
    async with _encoding(
        trees, settings["store_url"], settings["prefix"], settings["lend"]
    ) as encode:
        for location in told:
            answer = await _answer(encode, os.fsdecode(location))
            sys.stdout.write(f"{answer}\n")
            sys.stdout.flush()


async def _answer(encode: _Encode, location: str) -> str:
    try:
        return f"= {(await encode(location)).to_urn()}"
    except StoreError as error:
        return f"? {printable(str(error))}"
    except (ErisError, OSError) as error:
        return f"! {printable(str(error))}"


@asynccontextmanager
async def _encoding(
    trees: TreeFormat, store_url: str, prefix: str, lend: bool
) -> AsyncIterator[_Encode]:
    if not store_url:
        with work_done_by(_AtOnce()):
            yield lambda location: trees.put(NullStore(), location, None)
        return
    async with open_store(default_store_urls(store_url)) as store:

        async def encode(location: str) -> ReadCapability:
            taker = await store.taker()
            try:
                pin = await Pins(taker).open()
            except PinsUnsupported:
                return await trees.put(store, location, None)
            async with pin:
                capability = await trees.put(taker, location, None)
                name = prefix + os.path.basename(location)
                await pin.close(name=name, root=capability.root.reference, lend=lend)
                return capability

        yield encode


class _AtOnce(Executor):
    """Does what is for a thread where it is called: nobody else waits, and small items are many."""

    def submit(
        self, function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Future[_T]:
        done: Future[_T] = Future()
        try:
            done.set_result(function(*args, **kwargs))
        except Exception as error:
            done.set_exception(error)
        return done


def _texts(file: BufferedReader) -> Iterator[bytes]:
    """What ends with a zero byte, as it comes."""
    rest = b""
    while data := file.read1(65536):
        *texts, rest = (rest + data).split(b"\0")
        yield from texts


if __name__ == "__main__":
    main()
