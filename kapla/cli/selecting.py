"""What `kapla encode` takes of the paths it is given: its options, and what it says of the rest.

Patterns are read in `kapla.cli.exclude`, and kapla's own files are found in `kapla.cli.own_files`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, Final, TypeVar

import click

import eris_fs
from eris_fs.errors import FileChanged, UnsupportedEntry
from kapla.cli.exclude import exclude_options, read_patterns
from kapla.cli.own_files import OwnFiles
from kapla.cli.sources import Sources
from kapla.cli.store import say

__all__ = ["Selecting", "SelectingOptions", "selecting_options"]

_T = TypeVar("_T")

_MOST_LISTED: Final = 50


class SelectingOptions:
    """The options as they were given."""

    def __init__(self, exclude: Sequence[str], files: Sequence[str], one: bool, skip: bool) -> None:
        self._exclude = exclude
        self._files = files
        self._one_file_system = one
        self._skip_unreadable = skip

    @property
    def are_given(self) -> bool:
        """Whether there are any."""
        patterns = self._exclude or self._files
        return bool(patterns or self._one_file_system or self._skip_unreadable)

    def of(self, sources: Sources, store_url: str | None) -> Selecting:
        """What they mean for these sources.

        Raises: click.UsageError, CommandError, OSError.
        """
        patterns = read_patterns(self._exclude, self._files, sources.paths)
        sources.check(may_be_unreadable=self._skip_unreadable)
        if not sources.has_directory:
            if patterns is not None:
                raise click.UsageError("--exclude and --exclude-from are for directories.")
            if self._one_file_system:
                raise click.UsageError("--one-file-system is for directories.")
            if self._skip_unreadable and not sources.are_several:
                raise click.UsageError("--skip-unreadable is for directories.")
        own = OwnFiles(store_url)
        if not sources.is_stream:
            for path in sources.paths:
                own.check(path)
        return Selecting(patterns, self._one_file_system, self._skip_unreadable, own)


def selecting_options(*, skip: bool) -> Callable[[Callable[..., _T]], Callable[..., _T]]:
    """Add options to a command, which gets `selecting`; `skip`: --skip-unreadable, too."""

    def decorate(command: Callable[..., _T]) -> Callable[..., _T]:
        @wraps(command)
        def join(
            *args: Any,
            exclude: tuple[str, ...],
            exclude_files: tuple[str, ...],
            one_file_system: bool,
            skip_unreadable: bool = False,
            **others: Any,
        ) -> _T:
            given = SelectingOptions(exclude, exclude_files, one_file_system, skip_unreadable)
            return command(*args, selecting=given, **others)

        if skip:
            join = click.option(
                "--skip-unreadable",
                is_flag=True,
                help="Leave out of a tree what cannot be read, list it, and end with exit code 9.",
            )(join)
        join = click.option(
            "--one-file-system",
            is_flag=True,
            help="Stay in the file system of PATH: where another is mounted, an empty directory.",
        )(join)
        return exclude_options(join)

    return decorate


class Selecting:
    """What is taken, and what was not."""

    def __init__(
        self,
        patterns: eris_fs.Patterns | None,
        one_file_system: bool,
        skip_unreadable: bool,
        own: OwnFiles,
    ) -> None:
        self._patterns = patterns
        self._one_file_system = one_file_system
        self._skip_unreadable = skip_unreadable
        self._own = own
        self._listed: dict[str, str] = {}
        self._skipped = 0

    @property
    def selection(self) -> eris_fs.Selection:
        """What a tree takes."""
        return eris_fs.Selection(
            exclude=self._patterns,
            one_file_system=self._one_file_system,
            forbidden=self._own.forbidden,
            skip=self._skip if self._skip_unreadable else None,
        )

    @property
    def for_measuring(self) -> eris_fs.Selection:
        """The same, of which nothing is said."""
        selection = self.selection
        return selection if selection.skip is None else replace(selection, skip=lambda error: None)

    @property
    def is_incomplete(self) -> bool:
        """Whether something was left out since it cannot be read."""
        return self._skipped > 0

    def begin(self) -> None:
        """All is read from the beginning; what we ourselves make for that is made by now."""
        self._own.look_again()
        self._listed.clear()
        self._skipped = 0

    def say(self) -> None:
        """Say what was left out that was not named."""
        self._own.say()
        for path, reason in self._listed.items():
            say(f"skipped {path}: {reason}")
        if more := self._skipped - len(self._listed):
            say(f"skipped {more:,} more")
        if self._skipped:
            files = "1 entry" if self._skipped == 1 else f"{self._skipped:,} entries"
            say(f"{files} could not be read, and what this URN stands for is without")

    def _skip(self, error: eris_fs.TreeError) -> None:
        self._skipped += 1
        if len(self._listed) < _MOST_LISTED and isinstance(error, UnsupportedEntry | FileChanged):
            self._listed[error.path] = error.reason
