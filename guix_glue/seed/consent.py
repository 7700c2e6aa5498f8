"""Which items may be given to others: rules, without I/O.

Only what has a public signed narinfo is offered: what anybody can have from a server anyway. Who
fetched it has noted so; about others the servers are asked, but only about what was not made on
this machine, so that nobody is told the names of what is private. In this order:

1. What a pattern of `deny` names is not offered, nor asked about; one of `allow` lifts the usual
   patterns, not those that were given.
2. What was fetched by a signed narinfo is offered, if its content is still that.
3. What was made here is not. The database of Nix marks it (`ultimate`), and has the signatures of
   what others made. That of Guix does neither: there something counts as made here that has no
   derivation, as files that were added by hand, or of which there is a log of its build.
4. About all else the servers are asked, once.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import Final

from guix_glue.kept.public_items import item_mark
from guix_glue.local.store_list import ValidItem

__all__ = ["USUALLY_DENIED", "Answers", "Consent", "Say", "Verdict"]

USUALLY_DENIED: Final = (
    "*.drv",
    *("etc", "etc-*", "*-etc"),
    *("system", "*-system", "nixos-system-*"),
    *("home", "*-home", "home-environment*", "home-files*", "home-manager-*"),
    *("profile", "*-profile", "user-environment*", "env-manifest*"),
    *("unit-*", "activat*", "*-generation", "boot", "users-groups.json", "channels.scm"),
)
"""Names, behind the hash part, of what is made of somebody's settings."""


class Say(Enum):
    """What is done with an item."""

    OFFERED = "offered"
    NOT_OFFERED = "not offered"
    TO_ASK = "to be asked about"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is done with an item, and why, in words."""

    say: Say
    reason: str


@dataclass(frozen=True, slots=True)
class Answers:
    """What is known of items, by their marks: which have a public narinfo, and which have none.

    `noted` are those that were fetched, `yes` and `no` what servers answered.
    """

    noted: Container[bytes] = frozenset()
    yes: Container[bytes] = frozenset()
    no: Container[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class Consent:
    """The rules, with the patterns that were given.

    `has_log` tells whether there is a log of the build of a derivation on this machine, None if
    that cannot be told; `may_ask`: whether there are servers to ask.
    """

    deny: Sequence[str] = ()
    allow: Sequence[str] = ()
    has_log: Callable[[str], bool | None] = lambda deriver: None
    may_ask: bool = True

    def decide(self, item: ValidItem, answers: Answers) -> Verdict:
        """What is done with an item."""
        denied = self._denied(item.name)
        if denied is not None:
            return Verdict(Say.NOT_OFFERED, denied)
        mark = item_mark(item.hash_part, item.nar_hash)
        if mark in answers.noted:
            return Verdict(Say.OFFERED, "it was fetched by a signed narinfo")
        made_here = self._made_here(item)
        if made_here is not None:
            return Verdict(Say.NOT_OFFERED, made_here)
        if mark in answers.yes:
            return Verdict(Say.OFFERED, "a server has a signed narinfo of it")
        if mark in answers.no:
            return Verdict(
                Say.NOT_OFFERED, "no server that was asked has a signed narinfo of this content"
            )
        if not self.may_ask:
            return Verdict(
                Say.NOT_OFFERED, "it is not known to be public, and there is no server to ask"
            )
        return Verdict(Say.TO_ASK, "the servers have not answered yet whether it is public")

    def _denied(self, name: str) -> str | None:
        pattern = _matching(name, self.deny)
        if pattern is not None:
            return f"its name matches --deny {pattern}"
        pattern = _matching(name, USUALLY_DENIED)
        if pattern is not None and _matching(name, self.allow) is None:
            return (
                f"its name matches {pattern}, which is usually made of somebody's settings;"
                " --allow lifts that"
            )
        return None

    def _made_here(self, item: ValidItem) -> str | None:
        if item.is_built_here:
            return "the store's database says that it was built on this machine"
        if item.is_signed is False:
            return "nobody has signed it: the store's database has no signature of it"
        if item.is_signed:
            return None
        if item.deriver is None:
            return "it was added to the store on this machine: no derivation made it"
        has_log = self.has_log(item.deriver)
        if has_log is None:
            return "whether it was built here cannot be told: the logs of builds cannot be read"
        return "it was built on this machine: there is a log of that" if has_log else None


def _matching(name: str, patterns: Sequence[str]) -> str | None:
    return next((pattern for pattern in patterns if fnmatchcase(name, pattern)), None)
