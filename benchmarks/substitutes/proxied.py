"""A nar out of blocks through the proxy beside the same nar by HTTP zstd:3, both on loopback.

The blocks are in a daemon of this machine, and the URN is signed; both servers have sent the nar
before. It is taken by stock Nix, if that is there, into a store that is empty but for its database;
and by a client that unpacks what is compressed, hashes the nar, and writes nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.report import Row, compare
from benchmarks.substitutes.items import Item
from benchmarks.substitutes.programs import (
    HERE,
    PROGRAMS,
    Place,
    Publication,
    Server,
    kaplad,
    offers,
    publish,
    running,
)
from benchmarks.taking import get_narinfo, read_nar
from eris_fs import remove_tree

__all__ = ["proxy", "run"]

_STORE_DIR: Final = "/nix/store"
_BAR: Final = 1.5
_GOAL: Final = 1.0

_Take = Callable[[str, Item], float]
"""Takes an item from a server; returns seconds."""


def run(
    scratch: Path, tree: Publication, nar: Publication, items: Sequence[tuple[Item, int]]
) -> Iterator[Row]:
    """Measure items, published as a tree and as a nar, each in so many rounds."""
    baked = [item for item, _ in items]
    with (
        kaplad(HERE, scratch / "proxied-store") as store,
        _published(scratch, tree, baked, store.url) as trees,
        _published(scratch, nar, baked, store.url) as nars,
        proxy(HERE, scratch, store.url, trees) as url,
    ):
        for item, rounds in items:
            if shutil.which("nix-store") is None:
                print("Nix is not installed: it is left out", file=sys.stderr)
            else:
                nix = _Nix(scratch / "nix")
                times = _in_turns(nix.take, item, url, nars.url, rounds)
                yield _row(item, "stock Nix", times, _BAR, _GOAL)
            times = _in_turns(_read, item, url, nars.url, rounds)
            yield _row(item, "a client that only hashes it", times)


def _row(
    item: Item,
    client: str,
    times: tuple[list[float], list[float]],
    bar: float | None = None,
    goal: float | None = None,
) -> Row:
    case = f"loopback: {item.label}: nar through the proxy, warm / HTTP zstd:3"
    return compare(case, *times, "s", bar, goal, at_most=True, note=f"to {client}")


def _in_turns(
    take: _Take, item: Item, ours: str, theirs: str, rounds: int
) -> tuple[list[float], list[float]]:
    times: dict[str, list[float]] = {ours: [], theirs: []}
    for url in times:
        take(url, item)
    for number in range(rounds):
        # Whoever comes first has no advantage over all rounds.
        for url in (ours, theirs) if number % 2 else (theirs, ours):
            times[url].append(take(url, item))
    return times[ours], times[theirs]


class _Nix:
    """Stock Nix, which takes each item into a new store."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(exist_ok=True)

    def take(self, url: str, item: Item) -> float:
        """Take an item; in seconds."""
        store = Path(tempfile.mkdtemp(dir=self._directory))
        try:
            self._run(store, "--init")
            os.sync()
            begin = time.perf_counter()
            self._run(store, "--realise", item.store_path(_STORE_DIR), url=url)
            return time.perf_counter() - begin
        finally:
            remove_tree(str(store))

    def _run(self, store: Path, *arguments: str, url: str = "") -> None:
        options = {"substituters": url, "require-sigs": "false", "build-users-group": ""}
        named = [word for one in options.items() for word in ("--option", *one)]
        environment = {"PATH": os.environ["PATH"], "HOME": str(store / "home")}
        command = ["nix-store", "--store", str(store), *named, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"nix-store failed: {done.stderr}")


def _read(url: str, item: Item) -> float:
    """Read an item's nar to its end; in seconds."""
    narinfo = get_narinfo(url, item.hash_part, _STORE_DIR)
    begin = time.perf_counter()
    read_nar(url, narinfo)
    return time.perf_counter() - begin


@contextmanager
def _published(
    scratch: Path, publication: Publication, items: Sequence[Item], store: str
) -> Iterator[Server]:
    with publish(
        HERE,
        publication,
        items=scratch / "items",
        cache=scratch / "cache of nix",
        keys=scratch / "etc",
        store=store,
        store_dir=_STORE_DIR,
    ) as server:
        offers(server, items)
        yield server


@contextmanager
def proxy(place: Place, scratch: Path, store: str, server: Server) -> Iterator[str]:
    """Start `kapla proxy` before a publisher, with a cache in `scratch`; gives its URL.

    All that lies in the publisher's store counts as installed: no database says otherwise.
    """
    command: list[str | Path] = ["env", f"NIX_STORE_DIR={server.store_dir}"]
    command += [f"GUIX_STATE_DIRECTORY={scratch}", PROGRAMS / "kapla", "--debug", "proxy"]
    command += ["--port", "0", "--listen", place.address]
    command += ["--upstream", server.url, "--eris-store-url", store]
    command += ["--acl", scratch / "etc" / "acl", "--cache", scratch / "proxy"]
    listening = r"Listening on (http://\S+)"
    with running(place.command(*command), scratch / "proxy.log", listening) as (_, url):
        yield url
