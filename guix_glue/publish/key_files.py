"""Reads the keys that narinfos are signed with, before root is given up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from guix_glue.errors import InvalidKey, PublishError
from guix_glue.local.files import read_file
from guix_glue.publish.narinfos import SigningKeys
from guix_glue.trust.keys import parse_private_key, parse_public_key
from guix_glue.trust.nix_keys import NixSecretKey

__all__ = ["read_guix_keys", "read_nix_key"]

_LARGEST: Final = 64 * 1024


def read_guix_keys(public: Path, private: Path, host: str) -> SigningKeys:
    """Read a key pair of Guix.

    Raises: PublishError, naming the option that names another file.
    """
    public_text = _read(public, "public key", "--public-key")
    private_text = _read(private, "private key", "--private-key")
    try:
        public_key = parse_public_key(public_text)
    except InvalidKey as error:
        raise PublishError(f"{public} (--public-key): {error}") from None
    try:
        private_key = parse_private_key(private_text)
    except InvalidKey as error:
        raise PublishError(f"{private} (--private-key): {error}") from None
    if private_key.public != public_key:
        raise PublishError(f"{private} is not the private key that belongs to {public}")
    return SigningKeys(host, public_text, guix=private_key)


def read_nix_key(path: Path, host: str) -> SigningKeys:
    """Read a secret key of Nix.

    Raises: PublishError.
    """
    text = _read(path, "secret key", "--nix-key")
    try:
        key = NixSecretKey.parse(text.decode("utf-8", "replace"))
    except InvalidKey as error:
        raise PublishError(f"{path} (--nix-key): {error}") from None
    return SigningKeys(host, f"{key.public}\n".encode(), nix=key)


def _read(path: Path, what: str, option: str) -> bytes:
    try:
        return read_file(path, _LARGEST)
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        raise PublishError(f"cannot read the {what} {path} ({option}): {reason}") from error
