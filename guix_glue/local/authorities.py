"""Reads the keys whose word counts for a server that passes on what others say.

Those of Guix are in its access list, those of Nix are named, or are in its nix.conf. A list that is
not there is empty; one that was named and cannot be read is an error.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from guix_glue.errors import InvalidKey, PublishError, reason_of
from guix_glue.local.files import read_file
from guix_glue.local.nix_conf import nix_conf_path, read_nix_conf_keys
from guix_glue.trust.acl import LARGEST_ACL, Acl
from guix_glue.trust.authorities import Authorities
from guix_glue.trust.nix_keys import NixPublicKey

__all__ = ["read_acl", "read_authorities", "read_nix_keys"]

_log = logging.getLogger(__name__)


def read_authorities(
    acl: Path, nix_keys: Iterable[NixPublicKey], environ: Mapping[str, str]
) -> Authorities:
    """All keys that count: an access list, those that are named, and those of the machine's Nix.

    Raises: PublishError.
    """
    return Authorities(read_acl(acl), read_nix_keys(nix_keys, environ))


def read_nix_keys(
    nix_keys: Iterable[NixPublicKey], environ: Mapping[str, str]
) -> tuple[NixPublicKey, ...]:
    """Keys that are named, and those of the machine's Nix."""
    return tuple(dict.fromkeys([*nix_keys, *_keys_of_nix(nix_conf_path(environ))]))


def read_acl(path: Path) -> Acl:
    """Read the list of keys whose signatures count; one that is missing is empty.

    Raises: PublishError.
    """
    try:
        text = read_file(path, LARGEST_ACL)
    except FileNotFoundError:
        return Acl()
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        message = f"cannot read the list of authorized keys {path} (--acl): {reason}"
        raise PublishError(message) from error
    try:
        acl = Acl.parse(text)
    except ValueError as error:
        raise PublishError(f"{path} (--acl): {error}") from None
    if acl.remark is not None:
        _log.warning("%s (--acl): %s", path, acl.remark)
    return acl


def _keys_of_nix(path: str) -> Iterator[NixPublicKey]:
    """Keys of nix.conf. It is not ours: what is wrong with it is no reason not to start."""
    try:
        texts = read_nix_conf_keys(path)
    except (OSError, InvalidKey) as error:
        if isinstance(error, FileNotFoundError) and error.filename == path:
            return
        file = getattr(error, "filename", None) or path
        where = "" if file == path else f"{file}, which it includes: "
        _log.warning("No keys are taken from %s: %s%s", path, where, reason_of(error))
        return
    for text in texts:
        try:
            yield NixPublicKey.parse(text)
        except InvalidKey as error:
            _log.warning("%s: a key of trusted-public-keys is left out: %s", path, error)
