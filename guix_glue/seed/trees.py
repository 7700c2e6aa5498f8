"""Trees that may be seeded: items of a store, and directories of a person's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from guix_glue.local.build_logs import BuildLogs
from guix_glue.local.store_db import StoreDatabase
from guix_glue.local.store_list import ValidItem, list_items
from guix_glue.seed.asking import Known
from guix_glue.seed.consent import Consent, Say, Verdict

__all__ = ["DirectoryTrees", "SeedTree", "StoreTrees", "Trees", "has_log"]


@dataclass(frozen=True, slots=True)
class SeedTree:
    """A tree to be seeded: where it is; `identity`, what says that it is the same as before.

    That is the NarHash of a store's item, and empty for a tree that anybody may change: its files
    are looked at then.
    """

    root: str
    identity: bytes = b""


class Trees(Protocol):
    """Where trees come from. Synchronous, for a worker thread."""

    def stamp(self) -> object:
        """Is another when there may be others."""
        ...

    def list(self) -> tuple[list[SeedTree], list[ValidItem]]:
        """All that are offered now; and items that servers are to be asked about.

        Raises: GuixError, if it cannot be found out.
        """
        ...


class StoreTrees:
    """Items of the store at `store_dir`: those that are valid, and may be given away."""

    def __init__(
        self, database: StoreDatabase, store_dir: str, consent: Consent, known: Known
    ) -> None:
        self._database = database
        self._store_dir = store_dir
        self._consent = consent
        self._known = known

    def stamp(self) -> object:
        """See `Trees`."""
        return self._database.stamp(), self._known.stamp()

    def list(self) -> tuple[list[SeedTree], list[ValidItem]]:
        """See `Trees`. Raises: DatabaseError, ProtocolError."""
        answers = self._known.read()
        offered, to_ask = [], []
        for item in list_items(self._database, self._store_dir):
            say = self._consent.decide(item, answers).say
            if say is Say.OFFERED:
                offered.append(SeedTree(self._path(item), item.nar_hash))
            elif say is Say.TO_ASK:
                to_ask.append(item)
        return offered, to_ask

    def explain(self, path: str) -> Verdict:
        """Whether an item is offered, and why. Raises: DatabaseError, ProtocolError."""
        for item in list_items(self._database, self._store_dir):
            if self._path(item) == path:
                return self._consent.decide(item, self._known.read())
        return Verdict(Say.NOT_OFFERED, "it is no valid item of this store")

    def _path(self, item: ValidItem) -> str:
        return f"{self._store_dir}/{item.base_name}"


class DirectoryTrees:
    """Directories that somebody named: who names one wants it given away."""

    def __init__(self, roots: Sequence[str]) -> None:
        self._roots = tuple(roots)

    def stamp(self) -> object:
        """See `Trees`: nobody tells of changes below, so that they are looked for."""
        return None

    def list(self) -> tuple[list[SeedTree], list[ValidItem]]:
        """See `Trees`."""
        return [SeedTree(root) for root in self._roots if os.path.lexists(root)], []


def has_log(log_dir: str) -> Callable[[str], bool | None]:
    """Tells whether there is a log of the build of a derivation; None, if that cannot be told."""
    logs = BuildLogs(log_dir)
    directory = os.path.join(log_dir, "drvs")

    def look(deriver: str) -> bool | None:
        if not os.access(directory, os.R_OK | os.X_OK):
            return None
        return logs.of_derivation(deriver) is not None

    return look
