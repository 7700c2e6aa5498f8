"""Where a map is written to: OUT, in the form that its name suggests, or that is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click

from kapla.cli.common import CommandError, ExitCode

if TYPE_CHECKING:
    from guix_glue.formats.item_map import Contents

__all__ = ["form_option", "write"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


def form_option(command: Callable[_P, _T]) -> Callable[_P, _T]:
    """Add `--as` to a command, which gets it as `form`."""
    return click.option(
        "--as",
        "form",
        type=click.Choice(["map", "folder", "sqlite", "list"]),
        help="What to write: a map, a folder with a file for each item, a database of SQLite, or"
        " lines of items and URNs. Default: what OUT is or ends in (/, .sqlite, .db, .txt, .list;"
        " - is a list), else a map.",
    )(command)


async def write(out: str, form: str | None, contents: Contents, *, force: bool) -> None:
    """Write a map, whole or not at all; readable by its owner only, since it has URNs in it.

    Raises: CommandError, if something is there that may not be replaced; InvalidMap, OSError.
    """
    from eris.threads import in_thread
    from guix_glue.maps.writing import Form, form_of, lines_of, write_folder, write_map
    from kapla.cli.output_file import OutputFile
    from kapla.cli.target import Target

    chosen = form_of(out) if form is None else Form(form)
    if chosen is Form.FOLDER:
        _check_folder(out, force)
        await in_thread(write_folder, Path(out), contents)
        return
    if chosen is Form.SQLITE:
        from guix_glue.maps.database import write_database

        target = Target(out, force=force)
        target.check_for_a_file()
        async with target.prepare() as path:
            await in_thread(write_database, path, contents)
        return
    async with OutputFile(out, force=force).open(private=True) as file:
        if chosen is Form.MAP:
            await in_thread(write_map, file, contents)
        else:
            for line in lines_of(contents):
                file.write(line.encode())


def _check_folder(out: str, force: bool) -> None:
    """A folder that is there is filled, not replaced: what is no item in it stays."""
    if out == "-":
        raise CommandError("- cannot be a folder", ExitCode.USAGE)
    if os.path.isdir(out) and os.listdir(out) and not force:
        raise CommandError(f"{out} is not empty; --force makes it this map", ExitCode.FILE)
