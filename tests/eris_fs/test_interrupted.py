"""Trees whose way in or out is cancelled anywhere, and stores that raise anything: all ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from eris import BlockWriter, MemoryStore, ReadCapability
from eris_fs import (
    KnownContents,
    fetch_files,
    get_tree,
    load_tree,
    put_packed_tree,
    put_tree,
    remove_tree,
    survey_tree,
)
from tests.eris_fs.stores import BackwardStore, NothingKnown
from tests.eris_fs.trees import File, Link, Node, lay_out
from tests.interrupting import ODD_ERRORS, FailingAt, Odd, at_every_wait, check_run

_source = random.Random(1)
TREE: Node = {
    **{str(number): File(_source.randbytes(1500)) for number in range(5)},
    "large": File(_source.randbytes(300_000)),
    "link": Link("large"),
    "empty": {},
}
PUTS: dict[str, Any] = {
    "tree": lambda store, root: put_tree(store, root, window=8),
    "packed": lambda store, root: put_packed_tree(store, root, level=1, window=8),
}
NOTHING = NothingKnown()
CACHED: dict[str, Any] = {
    "cached tree": lambda store, root: put_tree(
        store, root, window=8, known=KnownContents(NOTHING, NOTHING)
    ),
    "cached packed": lambda store, root: put_packed_tree(
        store, root, level=1, window=8, known=KnownContents(NOTHING, NOTHING)
    ),
}
every_put = pytest.mark.parametrize("put", [*PUTS.values(), *CACHED.values()], ids=[*PUTS, *CACHED])
twice = pytest.mark.parametrize("again", [0, 100], ids=["once", "again and again"])
odd = pytest.mark.parametrize("error", ODD_ERRORS)
when = pytest.mark.parametrize("at_once", [True, False], ids=["at once", "awaited"])


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "tree"
    lay_out(TREE, path)
    return path


@pytest.fixture(scope="module")
def stored(root: Path) -> tuple[MemoryStore, dict[str, ReadCapability]]:
    store = MemoryStore()
    return store, {name: asyncio.run(put(store, root)) for name, put in PUTS.items()}


async def get(store: BlockWriter, capability: ReadCapability, out: Path) -> None:
    remove_tree(out)
    await get_tree(store, await load_tree(store, capability), out, window=8)


async def survey(store: BlockWriter, capability: ReadCapability, _: Path) -> None:
    await survey_tree(store, capability, await load_tree(store, capability))


every_get = pytest.mark.parametrize("read", [get, survey])
every_kind = pytest.mark.parametrize("kind", PUTS)
Stored = tuple[MemoryStore, dict[str, ReadCapability]]
Get = Callable[[BlockWriter, ReadCapability, Path], Coroutine[Any, Any, None]]


@twice
@every_put
def test_putting_is_cancelled_anywhere(root: Path, put: Any, again: int) -> None:
    assert at_every_wait(lambda: put(BackwardStore(MemoryStore()), root), again=again) > 3


@twice
@every_get
@every_kind
def test_getting_is_cancelled_anywhere(
    tmp_path: Path, stored: Stored, read: Get, kind: str, again: int
) -> None:
    store, urns = stored

    def work() -> Coroutine[Any, Any, None]:
        return read(BackwardStore(store), urns[kind], tmp_path / "out")

    assert at_every_wait(work, again=again) > 2


@odd
@when
@every_put
def test_a_store_that_raises_anything_when_put(
    root: Path, put: Any, error: type[BaseException], at_once: bool
) -> None:
    for number in (1, 4):
        failing = FailingAt(MemoryStore(), number, error, at_once=at_once)
        assert check_run(partial(put, failing, root)) is not None


@odd
@when
@every_get
@every_kind
def test_a_store_that_raises_anything_when_got(
    tmp_path: Path,
    stored: Stored,
    read: Get,
    kind: str,
    error: type[BaseException],
    at_once: bool,
) -> None:
    store, urns = stored
    for number in (1, 2, 4, 9):
        failing = FailingAt(store, number, error, at_once=at_once)
        failure = check_run(partial(read, failing, urns[kind], tmp_path / "out"))
        assert failure is not None or number > 2


@odd
def test_a_list_of_files_that_raises_anything(stored: Stored, error: type[BaseException]) -> None:
    store, urns = stored

    def files() -> Any:
        yield ("a",), urns["tree"]
        if error is StopIteration:
            raise Odd
        raise error

    async def work() -> None:
        async for _ in fetch_files(store, files()):
            pass

    assert check_run(work) is not None
