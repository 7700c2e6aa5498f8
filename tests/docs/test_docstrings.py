"""Docstrings become reStructuredText that says the same."""

from __future__ import annotations

import textwrap

import pytest

from tools.docstrings import to_restructured_text


def converted(text: str) -> str:
    return "\n".join(to_restructured_text(textwrap.dedent(text).strip().split("\n"))).strip()


@pytest.mark.parametrize(
    ("markdown", "restructured"),
    [
        ("Read `level`.", "Read ``level``."),
        ("Of `Reference`s.", "Of ``Reference``\\ s."),
        ("The key, `*args` apart.", "The key, ``*args`` apart."),
        ("*Strong* words, 2 * 3, a | b", "*Strong* words, 2 * 3, a \\| b"),
        ("any of *names", "any of \\*names"),
        ("for urn:erisx2", "for urn\\:erisx2"),
        ("see [the page](page.md)", "see the page"),
        ("* `get`: one", "* ``get``: one"),
    ],
)
def test_what_is_within_a_line(markdown: str, restructured: str) -> None:
    assert converted(markdown) == restructured


def test_fields_are_paragraphs_and_name_errors_as_links() -> None:
    said = converted(
        """
        Read it.

        The result is `bytes`.
        Raises: BlockNotFound, also
        InvalidKey; OSError.
        Source: ERIS 1.0.0, "Decoding" of BlockNotFound.
        """
    )
    assert said.split("\n\n")[1:] == [
        "The result is ``bytes``.",
        "**Raises**: :py:exc:`BlockNotFound`, also\n:py:exc:`InvalidKey`; OSError.",
        '**Source**: ERIS 1.0.0, "Decoding" of BlockNotFound.',
    ]


def test_code_stays_as_it_is() -> None:
    said = converted(
        """
        Encode:
        ```python
        for a in `b`: ...

        x_ = 1
        ```
        Done.
        """
    )
    assert said.split("\n") == [
        "Encode:",
        "",
        ".. code-block:: python",
        "",
        "    for a in `b`: ...",
        "",
        "    x_ = 1",
        "",
        "Done.",
    ]


def test_a_list_begins_with_an_empty_line() -> None:
    assert converted("It promises:\n* one\n* two") == "It promises:\n\n* one\n* two"
