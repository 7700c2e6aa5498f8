"""This machine's key pair, on disk.

A PEM file (PKCS #8) that only its owner can read. It is made whole or not at all: written beside
its place and linked there, so that of two daemons that start at once one makes it and the other
takes what it finds. What is there and is not as it should be is never replaced: a key is a name
that others have written down.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from kapla.errors import ConfigError
from kapla.identity.key import PeerKey
from kapla.identity.place import default_path

__all__ = ["KeyPair", "default_path", "load", "load_or_make"]

_OTHERS: Final = 0o077
# Of one key in PKCS #8 it is 119 bytes.
_LONGEST: Final = 4096


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key, which is never shown, and the public one that is its owner's name."""

    private: Ed25519PrivateKey = field(repr=False)
    public: PeerKey

    @classmethod
    def of(cls, private: Ed25519PrivateKey) -> KeyPair:
        """The pair of a private key."""
        return cls(private, PeerKey(private.public_key().public_bytes_raw()))

    @classmethod
    def generate(cls) -> KeyPair:
        """A new pair, of no file."""
        return cls.of(Ed25519PrivateKey.generate())

    def to_pem(self) -> bytes:
        """The private key as a file has it."""
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_or_make(path: Path | None = None) -> KeyPair:
    """The key pair at `path` (else where it usually is), made there if there is none.

    Raises: ConfigError.
    """
    path = path or default_path()
    try:
        with contextlib.suppress(FileNotFoundError):
            return _read(path)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(path)
        return _read(path)
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error


def load(path: Path) -> KeyPair:
    """The key pair at `path`.

    Raises: ConfigError.
    """
    try:
        return _read(path)
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error


def _make(path: Path) -> None:
    """Put a new pair at `path`, unless somebody else does meanwhile."""
    beside = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(8).hex()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(beside, flags, 0o600)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)  # whatever the umask is
            file.write(KeyPair.generate().to_pem())
            file.flush()
            os.fsync(descriptor)
        # Not a rename, which would replace the other's.
        with contextlib.suppress(FileExistsError):
            os.link(beside, path)
    finally:
        os.unlink(beside)
    _sync(path.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> KeyPair:
    """Raises: FileNotFoundError and other OSError; ConfigError."""
    try:
        # Nor does it wait for somebody at the other end of a pipe.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _unusable(path, "it is a symbolic link") from None
        raise
    try:
        _check(path, os.fstat(descriptor))
        data = os.read(descriptor, _LONGEST + 1)
    finally:
        os.close(descriptor)
    return _parse(path, data)


def _check(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise _unusable(path, "it is no regular file")
    if status.st_uid != os.geteuid():
        raise _unusable(path, "it belongs to another user")
    if status.st_mode & _OTHERS:
        raise _unusable(path, "others may read or change it; chmod 600 if they have not")


def _parse(path: Path, data: bytes) -> KeyPair:
    try:
        private = load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Not what the library says: it may repeat a part of it.
        raise _unusable(path, "it is damaged, or holds no private key in PEM") from None
    if len(data) > _LONGEST or not isinstance(private, Ed25519PrivateKey):
        raise _unusable(path, "it holds another key than one of Ed25519")
    return KeyPair.of(private)


def _unusable(path: Path, reason: str) -> ConfigError:
    return ConfigError(f"cannot use the key pair {path}: {reason}")
