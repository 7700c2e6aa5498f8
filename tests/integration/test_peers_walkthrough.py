"""docs/peers.md, its two tutorials, word for word: a desktop that can be dialled, and a laptop.

Each is a host of an emulated network, with a user of its own, who is not root. Without root there
is no network, and the tutorials are not followed.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from benchmarks.network import Home, Line, Nat, NetworkUnavailable, Plan, Spot, network
from tests.integration.shells import Shell
from tests.integration.users import as_a_user
from tests.integration.walkthrough import DOCUMENTS

LINE = Line(rtt_ms=4, up_mbit_s=None, down_mbit_s=None)
KEY = r"ed25519:[A-Za-z0-9_-]{43}"
# Whoever types is slower than this: a daemon must have begun to listen, and peers have connected.
STARTED = "until kapla stat >/dev/null 2>&1; do sleep 0.05; done"
CONNECTED = "until kapla peers 2>/dev/null | grep -q ^connected; do sleep 0.05; done"


class Block(NamedTuple):
    """Commands that are typed on one machine."""

    machine: str
    commands: str


def blocks_of(section: str) -> list[Block]:
    text = (DOCUMENTS / "peers.md").read_text()
    text = text[text.index(f"## {section}\n") :].split("\n## ")[0]
    found = re.findall(r"^```\n# on the (\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [Block(*each) for each in found]


class Walk:
    """Two people at their machines, and what each has printed."""

    def __init__(self, machines: dict[str, Shell], address: str) -> None:
        self.machines = machines
        self.said: list[str] = []
        self._address = address
        self._keys: dict[str, str] = {}

    def follow(self, block: Block) -> str:
        """Do what a block says; returns what was said meanwhile."""
        [other] = set(self.machines) - {block.machine}
        commands = block.commands.replace("desktop.example", self._address)
        commands = commands.replace("=ed25519:…", f"={self._keys.get(other)}")
        assert "…" not in commands
        if commands.rstrip().endswith("&"):
            commands += STARTED
        said = self.machines[block.machine].run(commands)
        if "--print-key" in commands:
            [self._keys[block.machine]] = re.findall(f"^{KEY}$", said, re.MULTILINE)
        self.said.append(said)
        return said

    def bring(self, name: str, to: str) -> None:
        """Carry a file from one machine to the other."""
        [other] = set(self.machines) - {to}
        shutil.copyfile(self.machines[other].home / name, self.machines[to].home / name)

    def wait(self, machine: str, condition: str) -> None:
        """Wait for what the one who types would wait for."""
        self.machines[machine].run(condition)


@pytest.fixture(scope="module")
def walk() -> Iterator[Walk]:
    """Both machines after the first tutorial, the laptop behind the worse kind of NAT."""
    plan = Plan((Spot("desktop", LINE),), (Home("home", LINE, Nat.SYMMETRIC, ("laptop",)),))
    user = as_a_user()
    with ExitStack() as stack:
        try:
            net = stack.enter_context(network(plan))
        except NetworkUnavailable as error:
            pytest.skip(f"no network can be made here: {error}")
        # The path of a socket is short, and that of a test's directory is not.
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kapla-")))
        machines = {
            name: stack.enter_context(Shell(directory / name, net.host(name).command(*user)))
            for name in ("desktop", "laptop")
        }
        made = Walk(machines, net.host("desktop").address)
        for block in blocks_of("Two machines"):
            if "@notes.urn" in block.commands:
                made.bring("notes.urn", "laptop")
            if block.commands.startswith("kapla peers"):
                made.wait(block.machine, CONNECTED)
            made.follow(block)
        yield made


def test_two_machines_read_what_one_of_them_has(walk: Walk) -> None:
    before, after = (said for said in walk.said if said.count("STATE "))
    assert re.search(r"^connected +dialled ", before, re.MULTILINE)
    notes = [walk.machines[name].home / "notes" / "today.txt" for name in ("desktop", "laptop")]
    assert notes[0].read_text() == notes[1].read_text() != ""
    assert notes[1].read_text() in after
    # What came, and which part of what was asked for was there.
    assert re.search(r"^connected +dialled .* 100 % +[1-9]", after, re.MULTILINE)


def test_from_behind_nat_a_laptop_gives_over_the_connection_that_it_made(walk: Walk) -> None:
    with_laptop, at_desktop = blocks_of("From behind NAT")
    walk.follow(with_laptop)
    walk.bring("photos.urn", "desktop")
    said = walk.follow(at_desktop)
    photos = [walk.machines[name].home / "photos" / "one.raw" for name in ("desktop", "laptop")]
    assert photos[0].read_bytes() == photos[1].read_bytes()
    assert re.search(r"^connected +inbound .* 5\.\d MiB", said, re.MULTILINE)


def test_what_came_is_kept_when_the_other_has_gone(walk: Walk) -> None:
    walk.machines["desktop"].run("kill %1; wait")
    walk.machines["laptop"].run("kapla decode @notes.urn again")
    again = walk.machines["laptop"].home / "again" / "today.txt"
    assert again.read_text() == (walk.machines["laptop"].home / "notes" / "today.txt").read_text()
