"""Where `kapla items fetch` brings items to: an archive, standard output, a store of Guix or Nix.

Each tells what is there already, and what stands in the way, before anything is fetched.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack
from typing import Final, Protocol

from guix_glue.cli.items_options import NIX_STORE, GuixKey
from guix_glue.closures.archive_file import ArchiveFile
from guix_glue.closures.belief import Belief
from guix_glue.closures.bringing import ItemSink, end_of
from guix_glue.closures.guix_import import GuixImport, valid_items
from guix_glue.closures.nix_import import NixImport, valid_nix_items
from guix_glue.closures.signing import ArchiveSigner
from guix_glue.closures.streamed import ArchiveStream
from guix_glue.closures.wanted import Wanted, dangling
from guix_glue.formats.export import item_size
from guix_glue.local.daemon import GuixDaemon
from guix_glue.local.environment import GuixEnvironment, NixEnvironment
from kapla.cli.common import CommandError, ExitCode, standard_output
from kapla.cli.store import say
from kapla.cli.summary import current_summary

__all__ = ["Target", "open_target"]

_NIX_STORE_PROGRAM: Final = "nix-store"
_IMPORT_SILENCE_S: Final = 600.0
"""How long a daemon may say nothing: at the end of a large item it writes to disk."""
_SIGNATURE_SIZE: Final = 512
_SHOWN: Final = 3
_ROOM: Final = 1024 * 1024
"""Bytes that stay free."""


class Target(Protocol):
    """Where items go."""

    sink: ItemSink
    advice: str
    """What to say of what is done, where the rest fails."""

    def sign(self, wanted: Wanted, digest: bytes) -> bytes | None:
        """The signature of an item for an archive."""

    async def valid(self, names: Sequence[str]) -> AbstractSet[str]:
        """Those of these base names that are there, whoever brought them."""

    async def left(self, wanted: Sequence[Wanted]) -> Sequence[Wanted]:
        """What is to be brought still."""

    async def check(
        self, wanted: Sequence[Wanted], left: Sequence[Wanted], max_size: int | None
    ) -> None:
        """See that it can be. Raises: CommandError."""

    async def finish(self) -> None:
        """All of it is there."""


def open_target(
    store_dir: str,
    environment: GuixEnvironment,
    belief: Belief,
    key: GuixKey,
    stack: AsyncExitStack,
    *,
    output: str | None,
    force: bool,
    into_store: bool,
) -> Target:
    """The target for items of a store; closed with the stack. Without any it is nowhere.

    Raises: CommandError; DaemonError; OSError.
    """
    if into_store and _is_of_nix(store_dir, environment):
        if key.is_named:
            raise CommandError("--sign is for Guix: Nix looks at no signature", ExitCode.USAGE)
        nix = NixImport(_NIX_STORE_PROGRAM)
        stack.push_async_callback(nix.close)
        return _NixStore(nix, store_dir)
    if into_store:
        if store_dir != environment.store_dir:
            raise CommandError(
                f"these items are of {store_dir}, and the store of this machine is"
                f" {environment.store_dir}",
                ExitCode.USAGE,
            )
        daemon = GuixDaemon(environment.daemon_socket, silence_timeout_s=_IMPORT_SILENCE_S)
        stack.push_async_callback(daemon.close)
        guix = GuixImport(daemon)
        stack.push_async_callback(guix.close)
        signer = ArchiveSigner(key.read(environment), belief.authorities.acl)
        return _GuixStore(guix, daemon, store_dir, signer)
    signer = ArchiveSigner(key.read(environment) if key.is_named else None, None)
    if output == "-":
        if summary := current_summary():
            summary.withhold()
        return _Stream(ArchiveStream(standard_output()), signer)
    if output is None:
        return _Nowhere(signer)
    _check_replaceable(output, force=force)
    file = ArchiveFile(output, replace=force)
    stack.callback(file.close)
    return _File(file, signer, store_dir)


class _Nowhere:
    """Of a dry run: nothing is there, and nothing comes."""

    sink: ItemSink
    advice = ""

    def __init__(self, signer: ArchiveSigner) -> None:
        self._signer = signer

    def sign(self, wanted: Wanted, digest: bytes) -> bytes | None:
        return self._signer.sign(wanted, digest)

    async def valid(self, names: Sequence[str]) -> AbstractSet[str]:
        return frozenset()

    async def left(self, wanted: Sequence[Wanted]) -> Sequence[Wanted]:
        return wanted

    async def check(
        self, wanted: Sequence[Wanted], left: Sequence[Wanted], max_size: int | None
    ) -> None:
        if max_size is not None and (size := sum(one.item.nar_size for one in left)) > max_size:
            raise _too_large(size, max_size)

    async def finish(self) -> None:
        pass


class _Stream(_Nowhere):
    """Standard output."""

    advice = "what was written is no whole archive"

    def __init__(self, sink: ArchiveStream, signer: ArchiveSigner) -> None:
        super().__init__(signer)
        self._stream = self.sink = sink

    async def check(
        self, wanted: Sequence[Wanted], left: Sequence[Wanted], max_size: int | None
    ) -> None:
        await super().check(wanted, left, max_size)
        _note_of_archive(wanted, self._signer)

    async def finish(self) -> None:
        await self._stream.finish()


class _File(_Nowhere):
    """An archive in a file."""

    def __init__(self, sink: ArchiveFile, signer: ArchiveSigner, store_dir: str) -> None:
        super().__init__(signer)
        self._file = self.sink = sink
        self.advice = f"what came so far is in {sink.part}: run this again, and it goes on"

    async def left(self, wanted: Sequence[Wanted]) -> Sequence[Wanted]:
        place = await self._file.resume(
            wanted, lambda one, state: end_of(one, state, self._signer.sign)
        )
        if place:
            say(f"going on: {place} items are in {self._file.part} already")
        return wanted[place:]

    async def check(
        self, wanted: Sequence[Wanted], left: Sequence[Wanted], max_size: int | None
    ) -> None:
        await super().check(wanted, left, max_size)
        _note_of_archive(wanted, self._signer)
        size = sum(item_size(one.item, _SIGNATURE_SIZE) for one in left)
        _check_room(self._file.part, size)

    async def finish(self) -> None:
        await self._file.finish()


class _Store(_Nowhere):
    """A store of this machine."""

    advice = "what came before it is in the store: run this again, and it goes on"
    place: str | None
    """Where it is on this machine; None if that is not known."""

    async def left(self, wanted: Sequence[Wanted]) -> Sequence[Wanted]:
        there = await self.valid([one.item.base_name for one in wanted])
        return [one for one in wanted if one.item.base_name not in there]

    async def check(
        self, wanted: Sequence[Wanted], left: Sequence[Wanted], max_size: int | None
    ) -> None:
        await super().check(wanted, left, max_size)
        if not left:
            return
        names = dangling(left, {one.item.base_name for one in wanted})
        there = await self.valid(names) if names else frozenset()
        if missing := [name for name in names if name not in there]:
            raise CommandError(
                f"items refer to {_listed(missing)}, which {_is(missing)} neither among them nor in"
                " the store: encode with --closure",
                ExitCode.MISSING,
            )
        if self.place is not None:
            _check_room(self.place, sum(one.item.nar_size for one in left))


class _GuixStore(_Store):
    """The store of Guix."""

    def __init__(
        self, sink: GuixImport, daemon: GuixDaemon, store_dir: str, signer: ArchiveSigner
    ) -> None:
        super().__init__(signer)
        self.sink = sink
        self.place = store_dir
        self._daemon = daemon
        self._store_dir = store_dir

    async def valid(self, names: Sequence[str]) -> AbstractSet[str]:
        return await valid_items(self._daemon, self._store_dir, names)

    async def check(
        self, wanted: Sequence[Wanted], left: Sequence[Wanted], max_size: int | None
    ) -> None:
        await super().check(wanted, left, max_size)
        if unsigned := self._signer.lacking(left):
            raise CommandError(
                "the Guix daemon takes only what is signed by a key of its access list, and"
                f" {_listed(unsigned)} {_is(unsigned)} not: make the list where there is such a"
                " key, or have this machine sign, as root and with a key that is in its own list",
                ExitCode.DAMAGED,
            )


class _NixStore(_Store):
    """The store of Nix."""

    def __init__(self, sink: NixImport, store_dir: str) -> None:
        super().__init__(ArchiveSigner(None, None))
        self._import = self.sink = sink
        self._store_dir = store_dir
        # Nix may have been told of a store elsewhere.
        self.place = None if os.environ.get("NIX_REMOTE") else store_dir

    def sign(self, wanted: Wanted, digest: bytes) -> bytes | None:
        # Nix reads no signature here.
        return None

    async def valid(self, names: Sequence[str]) -> AbstractSet[str]:
        return await valid_nix_items(_NIX_STORE_PROGRAM, self._store_dir, names)

    async def finish(self) -> None:
        await self._import.finish()


def _is_of_nix(store_dir: str, guix: GuixEnvironment) -> bool:
    """Whether the store of Nix is there; where both are said to be, that of a Guix that runs is."""
    if store_dir != NixEnvironment.from_environ(os.environ).store_dir:
        return False
    return store_dir != guix.store_dir or not (
        "://" in guix.daemon_socket or os.path.exists(guix.daemon_socket)
    )


def _note_of_archive(wanted: Sequence[Wanted], signer: ArchiveSigner) -> None:
    """Say what whoever imports an archive will miss."""
    if names := dangling(wanted):
        say(f"the archive is not whole: items refer to {_listed(names)}, not among them")
    if wanted[:1] and wanted[0].item.store_dir == NIX_STORE:
        return
    if unsigned := signer.lacking(wanted):
        say(f"not signed: {_listed(unsigned)}; Guix will not import this archive: see --sign")


def _check_replaceable(output: str, *, force: bool) -> None:
    if os.path.isdir(output):
        raise CommandError(f"{output} is a directory", ExitCode.FILE)
    if os.path.lexists(output) and not force:
        raise CommandError(f"{output} exists; --force replaces it", ExitCode.FILE)


def _check_room(place: str, size: int) -> None:
    """See that there is room for so many bytes where this is; what is not there has any."""
    if not os.path.lexists(place):
        return
    found = os.statvfs(place)
    free = found.f_bavail * found.f_frsize
    if size + _ROOM > free:
        raise _too_large(size, free)


def _too_large(size: int, allowed: int) -> CommandError:
    return CommandError(
        f"the items have {size:,} bytes, and {allowed:,} are free or allowed: see --max-size",
        ExitCode.FILE,
    )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
