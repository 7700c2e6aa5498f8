"""Writing the pages, and the scripts for shells, where packages want them."""

from __future__ import annotations

import os
from pathlib import Path

from kapla.cli.completing.scripts import FILE_NAMES, script
from kapla.cli.manual.pages import page_named, page_names
from kapla.cli.manual.roff import Page, format_page

__all__ = ["write_completions", "write_page", "write_pages"]


def write_pages(directory: Path) -> list[Path]:
    """Write all pages, in man1, man5 and man8 below the directory; returns their paths.

    Raises: OSError.
    """
    pages = [page_named(name) for name in page_names()]
    return [write_page(directory, page) for page in pages if page is not None]


def write_page(directory: Path, page: Page) -> Path:
    """Write one page, in the place of one that is there.

    Raises: OSError.
    """
    return _write(directory / f"man{page.section}" / page.file_name, format_page(page))


def write_completions(shell: str, directory: Path) -> Path:
    """Write the script of a shell into the directory, under the name that the shell wants.

    Raises: OSError.
    """
    return _write(directory / FILE_NAMES[shell], script(shell))


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        made.write_text(text, encoding="utf-8")
        made.replace(path)
    finally:
        made.unlink(missing_ok=True)
    return path
