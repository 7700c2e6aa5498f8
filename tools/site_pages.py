"""The order of the pages of the site, by what readers come for.

A page that is in none of the groups is listed at the end, so that a new one is never lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

GROUPS: dict[str, tuple[str, ...]] = {
    "Begin": (
        "install",
        "tutorials/first-steps",
        "tutorials/lending-to-others",
        "tutorials/guix",
        "tutorials/python",
        "glossary",
        "what-it-is-not",
    ),
    "Use": (
        "daily-use",
        "cli",
        "care",
        "postgresql",
        "lending",
        "peers",
        "lan",
        "http",
        "status",
        "guix",
        "nix",
        "seeding",
        "python",
        "interop",
    ),
    "Know": (
        "security",
        "durability",
        "performance",
        "scale",
        "design",
        "formats",
        "wire",
    ),
    "Programs": (
        "reference/eris",
        "reference/eris_fs",
        "reference/kapla",
        "reference/doors",
    ),
    "Work on it": (
        "architecture",
        "contributing",
        "changes",
        "decisions/README",
    ),
}
# These have a list of their own, on their first page.
OWN_LIST = ("decisions",)


def contents_of_site(repository: Path) -> str:
    """The contents that the front page ends with, one hidden list for each group."""
    return "".join(_group(title, pages) for title, pages in _groups(repository) if pages)


def contents_of_decisions() -> str:
    """The contents that the first page of the decisions ends with."""
    return "\n\n```{toctree}\n:hidden:\n:glob:\n\n0*\n```\n"


def _groups(repository: Path) -> Iterator[tuple[str, list[str]]]:
    docs = repository / "docs"
    there = {page.relative_to(docs).with_suffix("").as_posix() for page in docs.rglob("*.md")}
    for title, pages in GROUPS.items():
        yield title, [page for page in pages if page in there]
    named = {page for pages in GROUPS.values() for page in pages}
    yield (
        "More",
        sorted(page for page in there - named if page.split("/")[0] not in OWN_LIST),
    )


def _group(title: str, pages: list[str]) -> str:
    names = "\n".join(f"docs/{page}" for page in pages)
    return f"\n\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n{names}\n```\n"
