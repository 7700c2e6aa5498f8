"""The files of ordinary certificates, as a URL names them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["CertificateFiles"]


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """PEM files, by absolute paths; None for those that are not named."""

    certificate: Path | None = None
    """What we show, with the certificates between it and the CA."""
    key: Path | None = None
    """The private key of `certificate`, or, where none is shown, a key pair of `kaplad`."""
    ca: Path | None = None
    """Whose certificates we accept."""
