"""`--path`: the part of a tree that a command is about, and where it goes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import click

import eris_fs
from kapla.cli.common import CommandError, ExitCode

__all__ = ["Chosen", "choose", "path_option"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


def path_option(command: Callable[_P, _T]) -> Callable[_P, _T]:
    """Add `--path` to a command, which gets `paths`."""
    return click.option(
        "--path",
        "paths",
        metavar="PATH",
        multiple=True,
        help="Of a tree only this: a file, a directory with all that is in it, or a pattern as of"
        " --exclude: *.jpg at any depth, /docs/*.txt from the top. May be given several times;"
        " !PATTERN takes something back. Only the blocks of these are fetched.",
    )(command)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A part of a tree: as a tree, with the paths that the whole one has."""

    tree: eris_fs.Tree
    named: eris_fs.Path | None
    """The one file or symlink that was asked for by its name, if that is all."""

    def as_one_entry(self) -> eris_fs.Tree:
        """The tree that is that one entry, so that it is written as OUT itself."""
        assert self.named is not None
        entry = self.tree[self.named]
        if isinstance(self.tree, eris_fs.PackedTree):
            return eris_fs.PackedTree({(): entry}, self.tree.packs, self.tree.writer)
        return {(): entry}


def choose(tree: eris_fs.Tree, paths: Sequence[str]) -> Chosen:
    """Choose what `--path` asks for.

    Raises: CommandError, for a pattern that is none, or that nothing in the tree matches.
    """
    if () in tree:
        raise CommandError("this tree is one file, without paths: leave --path out")
    # Bytes of arguments that are no UTF-8 stand in paths of packed trees in the same way.
    texts = [os.fsencode(path).decode("utf-8", "surrogateescape") for path in paths]
    try:
        found = eris_fs.take_part(tree, texts)
    except eris_fs.NothingMatches as error:
        raise CommandError(f"--path: {error}") from None
    except ValueError as error:
        raise CommandError(f"--path: {error}", ExitCode.USAGE) from None
    return Chosen(found.tree, found.named)
