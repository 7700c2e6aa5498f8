"""Names of store items: `/gnu/store/HASH-NAME`, and what may stand in them.

Whatever comes from a server, a file or the other end of a pipe goes through here before it becomes
part of a file name or of a line for the daemon.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from guix_glue.errors import InvalidEncoding, InvalidStorePath
from guix_glue.formats import nixbase32

__all__ = [
    "HASH_PART_LENGTH",
    "check_base_name",
    "check_hash_part",
    "check_store_path",
    "fixed_output_path",
    "format_hash",
    "hash_part_of",
    "is_hash_part",
    "is_store_path",
    "make_store_path",
    "parse_hash",
]

HASH_PART_LENGTH: Final = 32
_HASH_PART: Final = re.compile(f"[{nixbase32.ALPHABET}]{{{HASH_PART_LENGTH}}}")
# What the daemon allows in names; 211 characters, so that the longest lock file still has a name.
_LONGEST_NAME: Final = 211
_NAME: Final = re.compile(r"[0-9A-Za-z+\-_?=][0-9A-Za-z+\-._?=]*")
_HASH_PART_SIZE: Final = 20
_SHA256_SIZE: Final = 32


def check_hash_part(text: str) -> str:
    """Give a hash part back, if it is one.

    Raises: InvalidStorePath.
    """
    if not _HASH_PART.fullmatch(text):
        raise InvalidStorePath(text, "its hash part is not 32 digits of nix-base32")
    return text


def check_base_name(name: str) -> str:
    """Give `HASH-NAME` back, if it is one.

    Raises: InvalidStorePath.
    """
    hash_part, dash, rest = name[:32], name[32:33], name[33:]
    if not _HASH_PART.fullmatch(hash_part) or dash != "-":
        raise InvalidStorePath(name, "it does not begin with 32 digits of nix-base32 and a dash")
    if not _NAME.fullmatch(rest):
        raise InvalidStorePath(name, "its name is empty, begins with a dot, or has odd characters")
    if len(rest) > _LONGEST_NAME:
        raise InvalidStorePath(name, f"its name is longer than {_LONGEST_NAME} characters")
    return name


def check_store_path(path: str, store_dir: str) -> str:
    """The base name of the item at a path, which must be right below the store directory.

    Raises: InvalidStorePath.
    """
    directory, slash, name = path.rpartition("/")
    if not slash or directory != store_dir:
        raise InvalidStorePath(path, f"it is not in {store_dir}")
    return check_base_name(name)


def is_hash_part(text: str) -> bool:
    """Whether an item can have this hash part."""
    try:
        check_hash_part(text)
    except InvalidStorePath:
        return False
    return True


def is_store_path(path: str, store_dir: str) -> bool:
    """Whether an item of this store can have this path."""
    try:
        check_store_path(path, store_dir)
    except InvalidStorePath:
        return False
    return True


def hash_part_of(path: str) -> str:
    """The hash part of a store path or of a base name, which are not checked."""
    return path.rpartition("/")[2][:HASH_PART_LENGTH]


def parse_hash(text: str) -> bytes:
    """Read `sha256:` with nix-base32 (52 digits) or hexadecimal (64); returns 32 bytes.

    Raises: InvalidEncoding.
    """
    algorithm, _, digits = text.partition(":")
    if algorithm != "sha256":
        raise InvalidEncoding("the hash is no SHA-256")
    if len(digits) == 2 * _SHA256_SIZE and re.fullmatch("[0-9A-Fa-f]*", digits):
        return bytes.fromhex(digits)
    digest = nixbase32.decode(digits)
    if len(digest) != _SHA256_SIZE:
        raise InvalidEncoding("the hash is too short or too long for a SHA-256")
    return digest


def format_hash(digest: bytes) -> str:
    """Write a SHA-256 as Guix does: `sha256:` and 52 digits."""
    return f"sha256:{nixbase32.encode(digest)}"


def fixed_output_path(store_dir: str, name: str, sha256: bytes, *, recursive: bool = False) -> str:
    """Where the store keeps what is known by the hash of its content alone.

    `sha256` is that of the file, or if `recursive` that of the nar.
    Raises: InvalidStorePath, if the name is none.
    """
    if recursive:
        kind, inner = "source", sha256.hex()
    else:
        kind = "output:out"
        inner = hashlib.sha256(f"fixed:out:sha256:{sha256.hex()}:".encode()).hexdigest()
    return make_store_path(kind, inner, store_dir, name)


def make_store_path(kind: str, sha256: str, store_dir: str, name: str) -> str:
    """The path that the store makes of a kind of item, a SHA-256 in hexadecimal, and a name.

    Raises: InvalidStorePath, if the name is none.
    """
    described = f"{kind}:sha256:{sha256}:{store_dir}:{name}"
    digest = hashlib.sha256(described.encode()).digest()
    hash_part = bytearray(_HASH_PART_SIZE)
    for place, value in enumerate(digest):
        hash_part[place % _HASH_PART_SIZE] ^= value
    return f"{store_dir}/{check_base_name(f'{nixbase32.encode(bytes(hash_part))}-{name}')}"
