"""Reads the keys that narinfos are signed with, before root is given up."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

from guix_glue.errors import InvalidKey, PublishError
from guix_glue.local.files import read_file
from guix_glue.publish.narinfos import SigningKeys
from guix_glue.trust.acl import LARGEST_ACL, Acl
from guix_glue.trust.keys import parse_private_key, parse_public_key
from guix_glue.trust.nix_keys import NixSecretKey

__all__ = ["read_acl", "read_guix_keys", "read_nix_key"]

_log = logging.getLogger(__name__)

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


def read_acl(path: Path) -> Acl:
    """Read the list of keys whose signatures count; one that is missing is empty.

    Raises: PublishError.
    """
    try:
        text = _read(path, "list of authorized keys", "--acl", LARGEST_ACL)
    except PublishError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return Acl()
        raise
    try:
        acl = Acl.parse(text)
    except ValueError as error:
        raise PublishError(f"{path} (--acl): {error}") from None
    if acl.remark is not None:
        _log.warning("%s (--acl): %s", path, acl.remark)
    return acl


def _read(path: Path, what: str, option: str, limit: int = _LARGEST) -> bytes:
    try:
        return read_file(path, limit)
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        raise PublishError(f"cannot read the {what} {path} ({option}): {reason}") from error
