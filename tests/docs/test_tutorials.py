"""The tutorials in docs/tutorials, word for word: what they show is what happens."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.docs.machines import Block, Walk, walk


def bring(made: Walk, name: str, block: Block) -> None:
    """Carry a file to the machine that a block is typed on, once, from the one that has it."""
    here = made.home(block.machine) / name
    for machine in made.machines:
        there = made.home(machine) / name
        if not here.exists() and there.exists():
            shutil.copyfile(there, here)


@pytest.fixture(scope="module")
def first_steps() -> Iterator[Walk]:
    def before(made: Walk, block: Block) -> None:
        if "@notes.urn" in block.commands:
            bring(made, "notes.urn", block)

    with walk("tutorials/first-steps.md", before) as made:
        yield made


@pytest.fixture(scope="module")
def lending() -> Iterator[Walk]:
    def before(made: Walk, block: Block) -> None:
        for name in ("ann.key", "ben.key", "songs.urn"):
            if name in block.commands and f"> {name}" not in block.commands:
                bring(made, name, block)

    with walk("tutorials/lending-to-others.md", before) as made:
        yield made


def test_the_first_steps_show_what_is_said(first_steps: Walk) -> None:
    assert not first_steps.missing(), first_steps.everything()


def test_the_first_steps_end_with_the_tree_on_the_second_machine(first_steps: Walk) -> None:
    notes, copy = first_steps.home("first") / "notes", first_steps.home("second") / "copy"
    assert (copy / "2026" / "july.txt").read_text() == (notes / "2026" / "july.txt").read_text()
    assert (copy / "hello.sh").stat().st_mode & 0o100
    assert "forgotten: notes\n" in first_steps.everything(), first_steps.everything()


def test_lending_shows_what_is_said(lending: Walk) -> None:
    assert not lending.missing(), lending.everything()


def test_what_was_lent_is_there_when_the_lender_has_gone(lending: Walk) -> None:
    song = (lending.home("Ann") / "songs" / "one.ogg").read_bytes()
    assert (lending.home("Ben") / "songs" / "one.ogg").read_bytes() == song
    assert (lending.home("Ben") / "again" / "one.ogg").read_bytes() == song
