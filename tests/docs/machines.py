"""Pages of the documentation that are typed on several machines: each is here a shell and a home.

What a page shows below its commands is compared with what they say, but for what differs each time.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.integration.shells import Shell
from tests.integration.users import as_a_user
from tests.integration.walkthrough import DOCUMENTS, free_port

# Whoever types is slower than this: a daemon must have begun to listen.
STARTED = "until [ -S eris.sock ]; do sleep 0.05; done\n"

FENCED = re.compile(r"^```(text)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
MACHINE = re.compile(r"# (?:on the )?(\w+)(?: machine)?\n")
# Sizes, rates and times, or that there is none.
AMOUNT = re.compile(r"(?<!\S)(?:-|[\d.,]+(?: (?:[KMG]?i?B(?:/s)?|ms|s|%))?)(?!\S)")
ADDRESS = re.compile(r"\d+(?:\.\d+){3}:\d+")
KEY = re.compile(r"ed25519:[\w-]{43}")


class Block(NamedTuple):
    """Commands that are typed on one machine, and what the page shows of their output."""

    machine: str
    commands: str
    shown: str


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page, in order; the first line of each says where it is typed."""
    found: list[Block] = []
    for kind, body in FENCED.findall((DOCUMENTS / page).read_text()):
        if kind == "text":
            found[-1] = found[-1]._replace(shown=body)
            continue
        machine = MACHINE.match(body)
        assert machine, f"where is this typed?\n{body}"
        found.append(Block(machine[1], body[machine.end() :], ""))
    return found


def shape(line: str) -> str:
    """A line without what differs each time: amounts, addresses and keys."""
    for pattern, word in ((ADDRESS, "ADDRESS"), (KEY, "KEY"), (AMOUNT, "#")):
        line = pattern.sub(word, line)
    return " ".join(line.split())


class Walk:
    """What was said on each machine, block by block."""

    def __init__(self, machines: Mapping[str, Shell]) -> None:
        self.machines = machines
        self.said: list[tuple[Block, str]] = []

    def home(self, machine: str) -> Path:
        return self.machines[machine].home

    def missing(self) -> list[str]:
        """The lines that the page shows and nothing said."""
        missing = []
        for block, said in self.said:
            lines = {shape(line) for line in said.splitlines()}
            missing += [line for line in block.shown.splitlines() if shape(line) not in lines]
        return missing

    def everything(self) -> str:
        return "\n".join(f"# {block.machine}\n{said}" for block, said in self.said)


@contextmanager
def walk(page: str, before: Callable[[Walk, Block], None]) -> Iterator[Walk]:
    """Follow a page to its end, on the loopback interface.

    `before` does what the page says between two blocks, such as carrying a file.
    """
    blocks = blocks_of(page)
    ports = {port: str(free_port()) for port in ("5683", "5684")}
    with ExitStack() as stack:
        # The path of a socket is short, and that of a test's directory is not.
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kapla-")))
        user = list(as_a_user())
        names = dict.fromkeys(block.machine for block in blocks)
        shells = {name: stack.enter_context(Shell(directory / name, user)) for name in names}
        made = Walk(shells)
        for block in blocks:
            commands = re.sub(r"0\.0\.0\.0|\b\w+\.example\b", "127.0.0.1", block.commands)
            for there, here in ports.items():
                commands = re.sub(rf":{there}\b", f":{here}", commands)
            if commands.rstrip().endswith("&"):
                commands += STARTED
            before(made, block)
            made.said.append((block, shells[block.machine].run(commands)))
        yield made
