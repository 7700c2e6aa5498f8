"""Files in completions: left to the shell, or listed where something stands in front of them."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["OPEN", "files_at", "files_behind"]

OPEN: Final = "open"
"""The type of what is not finished, as a directory's name: no blank is put behind it."""
_MOST: Final = 500
# A directory may have millions of entries.
_MOST_LOOKED_AT: Final = 20_000


def files_at(text: str, kind: Literal["file", "dir"]) -> list[CompletionItem[str]]:
    """What has the shell complete a path by itself, as it does elsewhere."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(text, type=kind)]


def files_behind(before: str, path: str) -> list[CompletionItem[str]]:
    """The files whose paths begin so, each behind what stands before it, as @."""
    from click.shell_completion import CompletionItem

    directory, name = os.path.split(path)
    found = []
    try:
        with os.scandir(os.path.expanduser(directory) or ".") as entries:
            for entry in islice(entries, _MOST_LOOKED_AT):
                # As in shells, what is hidden is shown to who asks for it.
                if entry.name.startswith(name) and (name or not entry.name.startswith(".")):
                    found.append((os.path.join(directory, entry.name), entry.is_dir()))
    except (OSError, ValueError):
        return []
    return [
        CompletionItem(f"{before}{path}/", type=OPEN) if is_dir else CompletionItem(before + path)
        for path, is_dir in sorted(found)[:_MOST]
    ]
