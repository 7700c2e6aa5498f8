"""How paths are shown."""

from __future__ import annotations

import pytest

from eris_fs import printable, show_path


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 日", "plain é 日"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("two\nlines", r"two\nlines"),
        ("caf\udce9", r"caf\xe9"),
        ("\u202egnp", r"\u202egnp"),
        ("\ud800", r"\ud800"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_paths() -> None:
    assert show_path(("a", "b\t")) == r"a/b\t"
    assert show_path(()) == "."
