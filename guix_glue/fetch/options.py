"""What the daemon tells the fetcher in its environment: `_NIX_OPTIONS`, lines of `name=value`.

Options that a client sets who is not root arrive as `untrusted-NAME`. Those few that are harmless
are preferred when they are there: which servers to ask, and how to talk to the user. All others
count only without the prefix. Nothing here can fail: what makes no sense is passed over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Self

__all__ = ["MAX_SERVERS", "DaemonOptions", "parse_options"]

_PREFIX: Final = "untrusted-"
_CHOSEN_BY_ANYBODY: Final = frozenset(
    {"substitute-urls", "print-extended-build-trace", "terminal-columns"}
)

MAX_SERVERS: Final = 64
"""Nobody lists so many, and each costs a connection."""

_COLUMNS: Final = 80


@dataclass(frozen=True, slots=True)
class DaemonOptions:
    """`substitute_urls` is None where nothing says which servers to ask."""

    substitute_urls: tuple[str, ...] | None = None
    extended_trace: bool = False
    deduplicate: bool = False
    terminal_columns: int = _COLUMNS
    discover: bool = False
    """Whether servers of the local network are to be asked, those that `guix discover` found."""
    urls_left_out: int = 0
    """How many more substitute URLs there are than servers that are asked."""

    def with_urls(self, text: str) -> Self:
        """The same with these servers, separated by spaces."""
        urls = tuple(text.split())
        asked = urls[:MAX_SERVERS]
        return replace(self, substitute_urls=asked, urls_left_out=len(urls) - len(asked))


def parse_options(text: str) -> DaemonOptions:
    """Read `_NIX_OPTIONS`; of a name that is given twice the last value counts."""
    values: dict[str, str] = {}
    for line in text.split("\n"):
        name, separator, value = line.partition("=")
        if separator:
            values[name] = value
    for name in _CHOSEN_BY_ANYBODY:
        if _PREFIX + name in values:
            values[name] = values[_PREFIX + name]
    urls = values.get("substitute-urls")
    options = DaemonOptions(
        extended_trace=values.get("print-extended-build-trace") == "1",
        # Stock Guix deduplicates whatever the value is, "no" included.
        deduplicate="deduplicate" in values,
        # The one value that stock Guix takes for yes; and only root's word, or the daemon's own.
        discover=values.get("discover") == "true",
        terminal_columns=_columns(values.get("terminal-columns", "")),
    )
    return options if urls is None else options.with_urls(urls)


def _columns(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) <= 4 and int(text) >= 20:
        return int(text)
    return _COLUMNS
