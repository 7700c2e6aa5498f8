"""What `kapla encode` notes in the catalogue: its options, what is measured, old versions let go.

The content is what counts: if only the catalogue fails, one line says so, and the URN is printed
all the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from eris.capability import ReadCapability
from eris.errors import ErisError, StoreError
from eris.node import block_count
from kapla.cli.common import CommandError, ExitCode, Progress, Store, run
from kapla.cli.quiet import is_watched
from kapla.cli.store import say
from kapla.cli.urn_file import urn_output

if TYPE_CHECKING:
    from kapla.catalogue.catalogue import Catalogue

__all__ = ["Measured", "Noting", "note_options"]

_T = TypeVar("_T")

_MAX_VERSIONS: Final = 1000
# What the name of a tree, and the file of its URN, end in for the delta beside it.
_DELTA: Final = ".delta"
_DELTA_KIND: Final = "delta"


def note_options(command: Callable[..., _T]) -> Callable[..., _T]:
    """Add `--name`, `--keep-versions`, `--out` and `--no-catalogue`; the command gets `noting`."""

    @wraps(command)
    def join(
        *args: Any,
        name: str | None,
        keep_versions: int | None,
        out: str | None,
        no_catalogue: bool,
        **others: Any,
    ) -> _T:
        if name is not None and (no_catalogue or others["no_store"]):
            raise click.UsageError("--name is for the catalogue, which has what is stored.")
        if keep_versions is not None and name is None:
            raise click.UsageError("--keep-versions is for --name.")
        wanted = not (no_catalogue or others["no_store"])
        noting = Noting(wanted=wanted, name=name, keep=keep_versions, out=out)
        return command(*args, noting=noting, **others)

    options = (
        click.option(
            "--no-catalogue",
            is_flag=True,
            help="Do not note it in the catalogue, which `kapla list` shows.",
        ),
        click.option(
            "--out",
            metavar="FILE",
            help="Write the URN to FILE, for its owner alone (0600), instead of standard output.",
        ),
        click.option(
            "--keep-versions",
            type=click.IntRange(1, _MAX_VERSIONS),
            metavar="N",
            help="Keep so many versions of NAME; older ones are forgotten. Default: as was said of"
            " it before, else 3.",
        ),
        click.option(
            "--name",
            metavar="NAME",
            callback=_checked_name,
            help="Note it under this name: @NAME stands for its URN, @NAME~1 for the one before.",
        ),
    )
    for option in options:
        join = option(join)
    return join


def _checked_name(_: click.Context, __: click.Parameter, name: str | None) -> str | None:
    from kapla.catalogue.errors import NotAName
    from kapla.catalogue.names import check_name

    try:
        return None if name is None else check_name(name)
    except NotAName as error:
        raise click.BadParameter(f"{error}.") from None


class Measured:
    """How many bytes of content there were, which a progress display is told on the way."""

    def __init__(self) -> None:
        self.size = 0

    def beside(self, shown: Progress) -> Progress:
        """Count from the beginning what this display is told."""
        self.size = 0
        return _Both(self, shown)


class _Both:
    def __init__(self, measured: Measured, shown: Progress) -> None:
        self._measured = measured
        self._shown = shown

    def advance(self, byte_count: int) -> None:
        self._measured.size += byte_count
        self._shown.advance(byte_count)

    def reach(self, files: int, byte_count: int) -> None:
        self._measured.size = byte_count
        self._shown.reach(files, byte_count)

    def expect(self, byte_count: int) -> None:
        self._shown.expect(byte_count)


@dataclass(slots=True)
class Noting:
    """What is to be noted of one content, and where its URN goes."""

    wanted: bool
    name: str | None
    keep: int | None
    out: str | None
    measured: Measured = field(default_factory=Measured)
    _store_url: str = field(default="", repr=False)
    _turn: int | None = None

    def output(self) -> Callable[[str], None]:
        """Where the URN is to be written.

        Raises: CommandError, before the work, if it cannot be written there.
        """
        return urn_output(self.out)

    async def before_pin(self) -> None:
        """Wait while somebody lets go of something, maybe the same; nobody does until `note`."""
        if self.wanted and self._turn is None:
            from kapla.cli.turns import wait_for_turn

            self._turn = await wait_for_turn(alone=False)

    async def note_store(self, store: Store) -> None:
        """Remember which store the blocks went to."""
        if not self.wanted:
            return
        from kapla.urls import format_store_url

        url = store.urls[0]
        # All is stored by now: that a connection is lost changes nothing.
        with suppress(StoreError):
            url = (await store.taker()).url
        self._store_url = format_store_url(url)

    def of_delta(self) -> Noting:
        """What is to be noted of the delta that stands beside this tree, and where its URN goes.

        Raises: CommandError, if its name would be none, or is that of something else.
        """
        out = self.out if self.out in (None, "-") else f"{self.out}{_DELTA}"
        name = None if self.name is None else f"{self.name}{_DELTA}"
        if name is not None:
            from kapla.catalogue.errors import NotAName
            from kapla.catalogue.names import check_name

            try:
                check_name(name)
            except NotAName as error:
                raise CommandError(f"--base notes {name}: {error}", ExitCode.USAGE) from None
            if self.wanted:
                _check_is_of_deltas(name)
        return Noting(wanted=self.wanted, name=name, keep=self.keep, out=out)

    def note(
        self,
        capability: ReadCapability,
        source: str,
        *,
        is_tree: bool,
        is_partial: bool = False,
        is_delta: bool = False,
    ) -> None:
        """Note what was stored, unless that is not wanted; `source`: where it was, for people."""
        if not self.wanted:
            return
        from kapla.catalogue.catalogue import note
        from kapla.catalogue.entries import Entry
        from kapla.catalogue.errors import CatalogueError
        from kapla.catalogue.place import default_path

        size = self.measured.size
        entry = Entry(
            urn=capability.to_urn(),
            root=capability.root.reference,
            store=self._store_url,
            kind=_kind(is_tree=is_tree, is_partial=is_partial, is_delta=is_delta),
            size=size,
            blocks=None if is_tree else block_count(size, capability.block_size),
            source=source,
            name=self.name,
            keep=self.keep,
        )
        try:
            aside = self._in_turn(lambda: note(default_path(), entry))
        except (CatalogueError, OSError) as error:
            say(f"this is not in the catalogue: {error}; --no-catalogue does without")
            self.wanted = False
            return
        if aside is not None:
            say(f"the catalogue was damaged, and is now {aside}; what could be read was kept")

    def _in_turn(self, note: Callable[[], _T]) -> _T:
        try:
            return note()
        finally:
            if self._turn is not None:
                os.close(self._turn)

    def let_go_of_old_versions(self) -> None:
        """Forget the versions of the name that are too many; those that cannot be stay."""
        if not self.wanted or self.name is None:
            return
        from kapla.catalogue.catalogue import Catalogue
        from kapla.catalogue.errors import CatalogueError
        from kapla.catalogue.place import default_path

        try:
            with Catalogue.open(default_path()) as catalogue:
                if too_many := len(catalogue.surplus(self.name)):
                    run(_let_go(catalogue, self.name))
                    _tell(self.name, too_many)
        except (CatalogueError, CommandError, ErisError, OSError) as error:
            say(f"older versions of {self.name} stay until the next time: {error}")


def _check_is_of_deltas(name: str) -> None:
    """See to it that no delta becomes a version of a tree, which is let go of when there are more.

    Raises: CommandError.
    """
    from kapla.catalogue.catalogue import Catalogue
    from kapla.catalogue.errors import CatalogueError
    from kapla.catalogue.place import default_path

    # What is wrong with the catalogue is said when it is written.
    with suppress(CatalogueError, OSError), Catalogue.open(default_path()) as catalogue:
        newest = catalogue.find(name)
        if newest is not None and newest.kind != _DELTA_KIND:
            raise CommandError(
                f"--base notes {name}, which is the name of something else: see kapla list; give"
                " another --name, or forget that one",
                ExitCode.USAGE,
            )


def _kind(*, is_tree: bool, is_partial: bool, is_delta: bool) -> str:
    if is_delta:
        return _DELTA_KIND
    return "partial" if is_partial else "tree" if is_tree else "file"


def _tell(name: str, count: int) -> None:
    """Tell a person what is not kept any more."""
    if is_watched():
        which = "the oldest version" if count == 1 else f"the {count} oldest versions"
        say(f"{which} of {name} let go (see --keep-versions)")


async def _let_go(catalogue: Catalogue, name: str) -> None:
    from kapla.cli.letting_go import let_go

    for entry in catalogue.surplus(name):
        await let_go(catalogue, entry)
