"""Store URLs: their schemes, and the sockets that are here."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from kapla.cli.completing.files import OPEN, files_behind

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["stores_like"]

_UNIX: Final = "coap+unix://"
_FILE: Final = "file://"
_SCHEMES: Final = (
    (_UNIX, "a socket of this machine"),
    ("coap+tcp://", "TCP"),
    ("coaps+tcp://", "TLS"),
    (_FILE, "a store's own file"),
    ("https://", "HTTPS, to read from"),
    ("http://", "HTTP, to read from"),
)


def stores_like(text: str) -> list[CompletionItem[str]]:
    """URLs that begin so, as far as they can be known."""
    from click.shell_completion import CompletionItem

    for scheme in (_UNIX, _FILE):
        if text.startswith(f"{scheme}/"):
            return files_behind(scheme, text.removeprefix(scheme))
    found = [CompletionItem(url, help="is here") for url in _here() if url.startswith(text)]
    return found + [
        CompletionItem(scheme, type=OPEN, help=what)
        for scheme, what in _SCHEMES
        if scheme.startswith(text) and scheme != text
    ]


def _here() -> list[str]:
    from kapla.local_socket import SYSTEM_SOCKET, default_socket

    paths = dict.fromkeys(map(str, (default_socket(os.environ), SYSTEM_SOCKET)))
    return [f"{_UNIX}{path}" for path in paths if _is_socket(path)]


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False
