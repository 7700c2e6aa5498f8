"""The public keys that the Nix of this machine trusts: `trusted-public-keys` of its nix.conf.

Read as Nix reads it: a line is a name, `=` and words; `#` begins a comment; `include` reads another
file in its place; of a name the last line counts, and `extra-` in front of it adds to that. Nothing
else of the file matters here, and what is odd in other lines is Nix's to tell. Settings of users
and of the environment are not the machine's, and not read.
Source: the manual of Nix 2.8, "nix.conf".
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Final

from guix_glue.errors import InvalidKey
from guix_glue.local.files import read_file
from guix_glue.trust.nix_keys import NixPublicKey

__all__ = ["MOST_KEYS", "NIX_DEFAULT_KEY", "nix_conf_path", "parse_nix_keys", "read_nix_conf_keys"]

NIX_DEFAULT_KEY: Final = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="
"""What Nix trusts whose nix.conf names no keys."""

MOST_KEYS: Final = 256
_LARGEST: Final = 1024 * 1024
_MOST_FILES: Final = 32
_NAMES: Final = frozenset({"trusted-public-keys", "binary-cache-public-keys"})
_EXTRA: Final = "extra-"


def nix_conf_path(environ: Mapping[str, str]) -> str:
    """Where the settings of the machine's Nix are, as the environment says."""
    return f"{environ.get('NIX_CONF_DIR') or '/etc/nix'}/nix.conf"


def read_nix_conf_keys(path: str) -> tuple[str, ...]:
    """The keys that a nix.conf names, as text; that of Nix itself if it names none.

    Raises: OSError, if it or a file that it includes cannot be read, or is too large; InvalidKey,
    if there are too many files or keys.
    """
    keys: list[str] | None = None
    for name, words in _Settings(path):
        if name.removeprefix(_EXTRA) not in _NAMES:
            continue
        before = (
            (keys if keys is not None else [NIX_DEFAULT_KEY]) if name.startswith(_EXTRA) else []
        )
        keys = [*before, *words]
        if len(keys) > MOST_KEYS:
            raise InvalidKey(f"there are more than {MOST_KEYS} keys")
    return tuple(dict.fromkeys([NIX_DEFAULT_KEY] if keys is None else keys))


def parse_nix_keys(text: str) -> tuple[NixPublicKey, ...]:
    """Read keys, `name:base64`, between blanks.

    Raises: InvalidKey.
    """
    words = text.split()
    if len(words) > MOST_KEYS:
        raise InvalidKey(f"there are more than {MOST_KEYS} keys")
    return tuple(map(NixPublicKey.parse, words))


class _Settings:
    """The settings of a file and of those that it includes, in order: name and words."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._left = _MOST_FILES

    def __iter__(self) -> Iterator[tuple[str, list[str]]]:
        return self._read(self._path)

    def _read(self, path: str) -> Iterator[tuple[str, list[str]]]:
        # One that includes itself comes to an end here, too.
        self._left -= 1
        if self._left < 0:
            raise InvalidKey(f"it includes more than {_MOST_FILES} files")
        for line in read_file(path, _LARGEST).decode("utf-8", "replace").split("\n"):
            match line.partition("#")[0].split():
                case ["include", name]:
                    yield from self._read(_beside(path, name))
                case ["!include", name] if os.path.exists(_beside(path, name)):
                    yield from self._read(_beside(path, name))
                case [name, "=", *words]:
                    yield name, words


def _beside(path: str, name: str) -> str:
    return os.path.join(os.path.dirname(path), name)
