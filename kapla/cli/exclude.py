"""What `kapla encode` leaves out of a tree: its options, and the files of patterns they name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, ParamSpec, TypeVar

import click

import eris_fs
from kapla.cli.common import CommandError, ExitCode

__all__ = ["exclude_options", "explained", "read_patterns"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_LONGEST_FILE: Final = 1024 * 1024


def exclude_options(command: Callable[_P, _T]) -> Callable[_P, _T]:
    """Add `--exclude` and `--exclude-from` to a command."""
    given_in_files = click.option(
        "--exclude-from",
        "exclude_files",
        metavar="FILE",
        multiple=True,
        help="The same for each line of FILE; # begins a comment. May be given several times.",
    )
    given = click.option(
        "--exclude",
        "exclude",
        metavar="GLOB",
        multiple=True,
        help="Leave out of a tree what matches, as a line of .gitignore does: *.o, cache/ or"
        " /build. May be given several times.",
    )
    return given(given_in_files(command))


def read_patterns(
    given: Sequence[str], files: Sequence[str], roots: Sequence[str]
) -> eris_fs.Patterns | None:
    """The patterns of both options, those of files first; None without any option.

    Raises: CommandError, OSError.
    """
    if not given and not files:
        return None
    try:
        return eris_fs.Patterns([*_of_files(files, roots), *_of_options(given, roots)])
    except eris_fs.InvalidPattern as error:
        raise CommandError(f"--exclude: {error}", ExitCode.USAGE) from None
    except ValueError as error:
        raise CommandError(f"--exclude-from: {error}", ExitCode.USAGE) from None


def explained(
    error: eris_fs.TreeError, roots: Sequence[str], *, packed: bool
) -> CommandError | None:
    """Say the way out for what a tree cannot hold; None if there is none."""
    ways = []
    if isinstance(error, eris_fs.NotUtf8) and not packed:
        ways.append("--packed can hold it")
    if isinstance(error, eris_fs.TreeTooLarge):
        ways.append("--exclude leaves some out")
    if isinstance(error, eris_fs.UnsupportedEntry | eris_fs.FileChanged) and _lies_below(
        error.path, roots
    ):
        ways.append("--exclude leaves it out")
        if isinstance(error, eris_fs.Unreadable | eris_fs.Vanished):
            ways.append("--skip-unreadable whatever cannot be read")
    return CommandError(f"{error}; {', '.join(ways)}", ExitCode.FILE) if ways else None


def _lies_below(path: str, roots: Sequence[str]) -> bool:
    """Whether this is in the tree: the top itself is what was asked for."""
    tops = {root.rstrip("/") for root in roots}
    return any(map(os.path.isdir, roots)) and path.rstrip("/") not in tops


def _of_options(given: Sequence[str], roots: Sequence[str]) -> Iterator[eris_fs.Pattern]:
    for text in given:
        pattern = _as_utf8(os.fsencode(text))
        _check_below(pattern, roots)
        yield eris_fs.parse_pattern(pattern)


def _of_files(names: Iterable[str], roots: Sequence[str]) -> Iterator[eris_fs.Pattern]:
    for name in names:
        with open(name, "rb") as file:
            data = file.read(_LONGEST_FILE + 1)
        if len(data) > _LONGEST_FILE:
            raise CommandError(f"{name} has more than 1 MiB of patterns", ExitCode.USAGE)
        text = _as_utf8(data)
        try:
            found = list(eris_fs.parse_patterns(text))
        except eris_fs.InvalidPattern as error:
            raise CommandError(f"{name}, {error}", ExitCode.USAGE) from None
        for line in text.split("\n"):
            _check_below(line, roots)
        yield from found


def _check_below(pattern: str, roots: Sequence[str]) -> None:
    """Whoever writes a path of the system means another thing than a path in the tree.

    Raises: CommandError.
    """
    tops = {find(root) for root in roots for find in (os.path.abspath, os.path.realpath)}
    for top in tops - {"/"}:
        if pattern.startswith(f"{top}/"):
            inner = pattern.removeprefix(top).rstrip()
            text = f"patterns begin at the top of the tree: not {pattern.rstrip()}, but {inner}"
            raise CommandError(f"--exclude: {text}", ExitCode.USAGE)


def _as_utf8(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
