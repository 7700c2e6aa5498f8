"""The same content from the same daemon by CoAP over TCP and by HTTP, over a link of 50 ms.

A program on the near side fetches all blocks of a content and checks them, as `kapla verify` does,
and tells how long that took, without its own start. By HTTP it is once in batches and once a GET a
block, as servers of other programs are asked. The bar is for batches: 0.8 of the rate by CoAP.

`python -m benchmarks.over_http URL` reads URNs and prints the seconds for each.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.link.cases import _COAP_PORT, _kapla, _kaplad
from benchmarks.link.emulator import Link, link
from benchmarks.network import NetworkUnavailable
from benchmarks.report import Row, compare
from benchmarks.scratch import kept_directory
from eris import BlockSize, ReadCapability
from eris.transfer import check_content
from kapla.client import open_store
from kapla.urls import parse_store_url

__all__ = ["run"]

_RTT_MS: Final = 50
_MBIT_S: Final = 100
_HTTP_PORT: Final = 8080
_BAR: Final = 0.8
# Of more blocks a GET for each takes too long.
_MOST_SINGLY: Final = 1024


class _Content(NamedTuple):
    """Random bytes, so many, in blocks of this size."""

    label: str
    block_size: BlockSize
    length: int

    @property
    def is_short(self) -> bool:
        return self.length <= _MOST_SINGLY * self.block_size


_CONTENTS: Final = (
    _Content("20 MiB in blocks of 32 KiB", BlockSize.LARGE, 20 << 20),
    _Content("8 MiB in blocks of 1 KiB", BlockSize.SMALL, 8 << 20),
    _Content("60 KiB in blocks of 1 KiB", BlockSize.SMALL, 60 << 10),
)


def run(rounds: int) -> list[Row]:
    """Measure over this many rounds; none, with a word, where no link can be made."""
    try:
        with link(_RTT_MS, _MBIT_S) as wire:
            return _measure(wire, kept_directory() / "http", rounds)
    except NetworkUnavailable as error:
        print(f"No link could be made: {error}. Its cases are left out.", file=sys.stderr)
        return []


def _measure(wire: Link, scratch: Path, rounds: int) -> list[Row]:
    scratch.mkdir(exist_ok=True)
    host = wire.far.address
    ways = {
        "coap": f"coap+tcp://{host}:{_COAP_PORT}",
        "batch": f"http://{host}:{_HTTP_PORT}",
        "single": f"ipfs+http://{host}:{_HTTP_PORT}",
    }
    rates: dict[tuple[str, _Content], list[float]] = defaultdict(list)
    with ExitStack() as stack:
        stack.enter_context(_kaplad(wire.far, scratch, "--http", f"{host}:{_HTTP_PORT}"))
        urns = {content: _encoded(scratch, content) for content in _CONTENTS}
        for _ in range(rounds):
            for way, url in ways.items():
                asked = [one for one in _CONTENTS if way != "single" or one.is_short]
                seconds = _fetched(wire, url, [urns[one] for one in asked])
                for content, taken in zip(asked, seconds, strict=True):
                    rates[way, content].append(content.length / taken / 1e6)
    rows = []
    for content in _CONTENTS:
        coap = rates["coap", content]
        case = f"{_RTT_MS} ms, {_MBIT_S} Mbit/s: {content.label}, batches / CoAP"
        rows.append(compare(case, rates["batch", content], coap, "MB/s", bar=_BAR))
        if content.is_short:
            rows.append(compare("  a GET a block / CoAP", rates["single", content], coap, "MB/s"))
    return rows


def _encoded(scratch: Path, content: _Content) -> str:
    file = scratch / "content"
    file.write_bytes(os.urandom(content.length))
    options = ("--lend", "--block-size", content.block_size.label)
    return _kapla("encode", *options, file, url=f"coap+unix://{scratch}/s")


def _fetched(wire: Link, url: str, urns: list[str]) -> list[float]:
    """Seconds for each, over connections of their own."""
    command = wire.near.command(sys.executable, "-m", "benchmarks.over_http", url)
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    done = subprocess.run(
        command,
        input="\n".join(urns),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    return [float(line) for line in done.stdout.splitlines()]


async def _fetch(url: str, urn: str) -> float:
    """Fetch and check all blocks over a connection that is there; the seconds that takes."""
    async with open_store([parse_store_url(url)]) as store:
        await store.connect()
        begin = time.perf_counter()
        async for block in check_content(store, ReadCapability.from_urn(urn)):
            assert block.error is None
        return time.perf_counter() - begin


if __name__ == "__main__":
    for line in sys.stdin:
        print(asyncio.run(_fetch(sys.argv[1], line.strip())))
