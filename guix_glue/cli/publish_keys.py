"""The keys that a publisher signs with, by its options; read before root is given up."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

from guix_glue.publish.key_files import read_guix_keys, read_nix_key
from guix_glue.publish.narinfos import SigningKeys

__all__ = ["keys_to_sign_with"]

_log = logging.getLogger(__name__)


def keys_to_sign_with(
    config_dir: str,
    public_key: Path | None,
    private_key: Path | None,
    nix_key: Path | None,
    *,
    serves_nix: bool,
) -> SigningKeys:
    """Those of Guix, unless only one of Nix is given, or the store of Nix is served.

    Raises: PublishError.
    """
    host = socket.gethostname()
    nix = None if nix_key is None else read_nix_key(nix_key, host)
    if public_key is None and private_key is None:
        if nix is not None:
            return nix
        if serves_nix:
            _log.warning(
                "Nothing is signed here (--nix-key): Nix takes only what somebody else has signed,"
                " or what is named by its content"
            )
            return SigningKeys(host)
    config = Path(config_dir)
    guix = read_guix_keys(
        public_key or config / "signing-key.pub", private_key or config / "signing-key.sec", host
    )
    return guix if nix is None else SigningKeys(host, guix.public, guix.guix, nix.nix)
