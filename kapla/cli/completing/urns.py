"""`@NAME`, `@NAME~N` and `@FILE` in the place of a URN, and names where these are asked for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kapla.cli.completing.files import files_behind

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["names_like", "urns_like"]


def urns_like(text: str) -> list[CompletionItem[str]]:
    """What may stand for a URN that begins so. Of URNs themselves nobody is told any."""
    if not text:
        return _names("", before="@")
    if not text.startswith("@"):
        return []
    rest = text[1:]
    if "~" in rest:
        return _versions(rest) or files_behind("@", rest)
    return _names(rest, before="@") + files_behind("@", rest)


def names_like(text: str) -> list[CompletionItem[str]]:
    """Names in the catalogue that begin so."""
    return [] if text.startswith("@") else _names(text, before="")


def _names(text: str, before: str) -> list[CompletionItem[str]]:
    from click.shell_completion import CompletionItem

    from kapla.catalogue.glance import glance_at_names

    if "/" in text:
        return []
    return [
        CompletionItem(f"{before}{one.name}", help=f"{one.kind}, {_age(one.stored)}")
        for one in glance_at_names(text)
    ]


def _versions(text: str) -> list[CompletionItem[str]]:
    from click.shell_completion import CompletionItem

    from kapla.catalogue.glance import glance_at_versions

    name, _, number = text.partition("~")
    return [
        CompletionItem(f"@{name}~{one.version}", help=_age(one.stored))
        for one in glance_at_versions(name)
        if str(one.version).startswith(number)
    ]


def _age(stored: int) -> str:
    """When it was stored, in words that take no space."""
    from kapla.amounts import duration_text

    return f"{duration_text(max(0, int(time.time()) - stored))} ago"
