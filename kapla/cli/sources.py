"""The paths that are to become one content: what they are together, and by which names.

One path is itself; several are one tree, in which each has its own name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import click

from eris_fs.model import printable
from eris_fs.scan import Root
from kapla.cli.outcome import CommandError, ExitCode
from kapla.cli.source import check_source

__all__ = ["Sources"]

# In a line of `kapla list`.
_MOST_NAMED: Final = 4


@dataclass(frozen=True, slots=True)
class Sources:
    """One path, several, or standard input (`-`)."""

    paths: tuple[str, ...]

    @classmethod
    def of(cls, paths: Sequence[str]) -> Sources:
        """Those that were given.

        Raises: click.UsageError; CommandError, if two would have the same name.
        """
        if not all(paths):
            raise click.UsageError("PATH is empty.")
        if "-" in paths and len(paths) > 1:
            raise click.UsageError("- (standard input) does not go together with other paths.")
        for path in paths:
            if path.startswith("urn:eris:") and not os.path.lexists(path):
                # It opens a content, and goes into no message.
                raise click.UsageError("A URN is no PATH: kapla decode gives what it stands for.")
        sources = cls(tuple(paths))
        if sources.are_several:
            sources._named()
        return sources

    @property
    def is_stream(self) -> bool:
        """Whether it is standard input."""
        return self.paths == ("-",)

    @property
    def are_several(self) -> bool:
        """Whether they become a tree for that alone."""
        return len(self.paths) > 1

    @property
    def has_directory(self) -> bool:
        """Whether any is a directory."""
        return not self.is_stream and any(map(os.path.isdir, self.paths))

    @property
    def is_tree(self) -> bool:
        """Whether they become a tree."""
        return self.are_several or self.has_directory

    @property
    def may_be_read_again(self) -> bool:
        """Whether all is there a second time: a pipe has nothing then."""
        return all(os.path.isdir(path) or os.path.isfile(path) for path in self.paths)

    @property
    def title(self) -> str:
        """What to call them."""
        return f"{len(self.paths)} paths" if self.are_several else self.paths[0]

    @property
    def description(self) -> str:
        """Where they are, in full, as text: a path may be any bytes."""
        if self.is_stream:
            return "-"
        whole = ", ".join(map(os.path.abspath, self.paths[:_MOST_NAMED]))
        more = len(self.paths) - _MOST_NAMED
        if more > 0:
            whole += f" and {more:,} more"
        return os.fsencode(whole).decode("utf-8", "backslashreplace")

    @property
    def root(self) -> Root:
        """What the libraries are given.

        A tree never follows symlinks, but one that the user names means what it leads to.
        """
        if not self.are_several:
            return _followed(self.paths[0])
        return {name: _followed(path) for name, path in self._named().items()}

    def check(self, *, may_be_unreadable: bool) -> None:
        """See whether all is there and can be read, before any store is asked.

        `may_be_unreadable`: of several paths, each may also be one that cannot be read.
        Raises: OSError.
        """
        for path in self.paths:
            try:
                check_source(path)
            except PermissionError:
                if not (may_be_unreadable and self.are_several and os.path.exists(path)):
                    raise

    def size_at_most(self) -> int:
        """The bytes in use in their file systems: as much as they can have, but for holes."""
        used = {}
        for path in self.paths:
            found = os.statvfs(path)
            used[os.stat(path).st_dev] = (found.f_blocks - found.f_bfree) * found.f_frsize
        return sum(used.values())

    def size_of_file(self) -> int | None:
        """The bytes of the one file; None, if it is none."""
        status = os.stat(self.paths[0])
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def _named(self) -> dict[str, str]:
        named: dict[str, str] = {}
        for path in self.paths:
            name = os.path.basename(os.path.abspath(path))
            if not name:
                raise CommandError(
                    f"{printable(path)} has no name to go by beside others: encode it alone",
                    ExitCode.USAGE,
                )
            if name in named:
                raise CommandError(
                    f"two paths are called {printable(name)}, {printable(named[name])} and"
                    f" {printable(path)}: encode them one by one, or a directory that holds both",
                    ExitCode.USAGE,
                )
            named[name] = path
        return named


def _followed(path: str) -> str:
    return os.path.join(path, "") if os.path.isdir(path) else os.path.realpath(path)
