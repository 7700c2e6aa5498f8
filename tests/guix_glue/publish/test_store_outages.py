"""Why the store fails is said by its kind, without its URL; once, and again when it changes."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from eris import BlockSize, Reference
from eris.crypto import reference_of
from eris.errors import StoreError, StoreFull, StoreRefused, StoreUnavailable
from eris.store import MemoryStore
from guix_glue.cli.store_failures import failure_of_store
from guix_glue.publish.model import ErisTarget
from guix_glue.publish.queue import TryLater
from guix_glue.publish.tree_formats import StandardTrees
from guix_glue.publish.trees import EncodeTree
from kapla.client import RemoteStore
from kapla.urls import parse_store_url
from tests.clocks import Clock, run_on_clock
from tests.integration.daemon import GUARD_S, running_daemon
from tests.integration.users import as_a_user

BLOCK = bytes(BlockSize.SMALL)


def failure(url: str, timeout_s: float = 60.0) -> str | None:
    """What is said of a store that is asked to keep a block."""

    async def main() -> StoreError:
        async with RemoteStore(parse_store_url(url), timeout_s=timeout_s) as store:
            with pytest.raises(StoreError) as caught:
                await store.put(Reference(reference_of(BLOCK)), BLOCK)
            return caught.value

    return failure_of_store(asyncio.run(main()))


def test_no_socket(tmp_path: Path) -> None:
    said = "cannot be reached: there is no such socket"
    assert failure(f"coap+unix://{tmp_path}/none") == said


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(f"{tmp_path}/left")
    assert failure(f"coap+unix://{tmp_path}/left") == "cannot be reached: connection refused"


def test_permission(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as closed:
        closed.bind(f"{tmp_path}/closed")
        closed.listen()
        (tmp_path / "closed").chmod(0)
        # Root may connect to all sockets.
        program = f"import sys; from {__name__} import failure; print(failure(sys.argv[1]))"
        command = [*as_a_user(), sys.executable, "-c", program, f"coap+unix://{tmp_path}/closed"]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=GUARD_S)
    assert said.stdout.strip() == "cannot be reached: permission denied"


def test_silence(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(f"{tmp_path}/silent")
        silent.listen()
        said = failure(f"coap+unix://{tmp_path}/silent", timeout_s=0.2)
        assert said is not None
        assert said.endswith("timed out")


def test_read_only(tmp_path: Path) -> None:
    with running_daemon(tmp_path, listen=[f"coap+unix://{tmp_path}/r?get"]) as daemon:
        del daemon
        said = failure(f"coap+unix://{tmp_path}/r")
    assert said == "refuses blocks: it is read-only, or does not do what is asked"


def test_full() -> None:
    assert failure_of_store(StoreFull("the store has reached its quota")) == "is full"


def test_it_is_said_once_and_again_when_it_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    (tmp_path / "file").write_bytes(b"content")
    failures: list[Callable[[str], StoreError] | None] = [
        StoreRefused,
        StoreRefused,
        # Of this nothing is known: as when a list of stores does not try again yet.
        StoreUnavailable,
        StoreFull,
        None,
        StoreUnavailable,
    ]

    class Store(MemoryStore):
        async def put(self, reference: Reference, block: bytes) -> None:
            if failures and (make := failures[0]) is not None:
                raise make("coap+unix:///secret?put")
            await super().put(reference, block)

    async def main(clock: Clock) -> None:
        target = ErisTarget(Store(), "one", StandardTrees(), explain=failure_of_store)
        encode = EncodeTree(target)
        while failures:
            if failures[0] is None:
                assert (await encode(str(tmp_path / "file"), "item")).urn is not None
            else:
                with pytest.raises(TryLater):
                    await encode(str(tmp_path / "file"), "item")
                # For a while nobody else tries.
                with pytest.raises(TryLater):
                    encode.check()
            failures.pop(0)
            clock.skip(11)
            await asyncio.sleep(0)

    run_on_clock(main)
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "item has no URN for now: the store refuses blocks: it is read-only, or does not do what"
        " is asked",
        "item has no URN for now: the store is full",
        "The store takes blocks again",
        "item has no URN for now: the store cannot be reached or fails",
    ]
