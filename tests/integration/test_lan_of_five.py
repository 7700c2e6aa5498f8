"""A LAN of five machines, one download: what `docs/lan.md` tells of it, with stock Nix on each."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.lan.five import Machine, Outside, Wares
from tests.integration.lan.sites import Sites, sites
from tests.integration.test_peers import stat

pytestmark = pytest.mark.skipif(
    shutil.which("nix-store") is None or shutil.which("tc") is None,
    reason="Nix, or tc of iproute2, is not installed",
)

_SIZES = (300_000, 3_000_000, 1_000_000)
_TRIES = 3


@dataclass
class Lan:
    """Five machines, and what is behind their router."""

    outside: Outside
    machines: list[Machine]


def at_once(machines: list[Machine], act: str) -> None:
    """Have all of these do something at the same time."""
    with ThreadPoolExecutor(len(machines)) as threads:
        list(threads.map(lambda one: getattr(one, act)(), machines))


@contextmanager
def a_lan() -> Iterator[Lan]:
    """A new one."""
    with sites() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kapla-")))
        yield _lan(Sites(stack), directory, stack)


def _lan(made: Sites, directory: Path, stack: ExitStack) -> Lan:
    site = made.site("home", 1)
    (directory / "outside").mkdir()
    outside = Outside(made, site, directory / "outside", Wares(directory, _SIZES))
    stack.callback(outside.close)
    outside.start()
    machines = []
    for number in range(5):
        own = directory / f"machine{number}"
        own.mkdir()
        # The first one has its items where they are at home: it is the one that can seed.
        machine = Machine(made.host(site), own, outside, has_store=number == 0)
        stack.callback(machine.close)
        machines.append(machine)
    at_once(machines, "start")
    return Lan(outside, machines)


def copies_seeded_and_fetched(lan: Lan) -> tuple[float, float]:
    """How many copies the first one gave out of its store, and how many came over the line."""
    first, second, *others = lan.machines
    one_copy = lan.outside.one_copy
    assert one_copy > sum(_SIZES)
    begun = lan.outside.crossed()
    first.realise()
    assert lan.outside.crossed() - begun > 0.9 * one_copy
    with first.seeding():
        # There is no second copy of what Nix has.
        first.forget_blocks(second, *others)
        second.until_it_finds(first)
        second.realise()
        seeded = stat(first.daemon)["seeds"]["bytes"]
        for one in others:
            one.until_it_finds(second)
        at_once(others, "realise")
    assert all(machine.has_all() for machine in lan.machines)
    return seeded / one_copy, (lan.outside.crossed() - begun) / one_copy


def test_one_download_for_all() -> None:
    seen = list[tuple[float, float]]()
    # Whoever is near and says nothing for two seconds is not waited for: where all five share a
    # machine that is busy with something else, that may be so.
    while len(seen) < _TRIES:
        with a_lan() as lan:
            seeded, fetched = copies_seeded_and_fetched(lan)
        if seeded > 0.5 and fetched <= 1.3:
            return
        seen.append((seeded, fetched))
    raise AssertionError(f"copies out of the store, and over the line: {seen}")
