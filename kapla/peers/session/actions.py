"""What a session has others do."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from eris.model import Reference

__all__ = ["Action", "Distrust", "Find", "Get", "NobodyHas"]


class Get(NamedTuple):
    """Ask a peer for a block."""

    peer: int
    reference: Reference


class Find(NamedTuple):
    """Ask a peer which of these blocks it has; `question` goes with the answer."""

    peer: int
    question: int
    references: tuple[Reference, ...]


class NobodyHas(NamedTuple):
    """All were asked in vain; `was_failure`: one of them failed, and may have it."""

    reference: Reference
    was_failure: bool


class Distrust(NamedTuple):
    """This peer gave a wrong block: leave it."""

    peer: int


Action: TypeAlias = Get | Find | NobodyHas | Distrust
