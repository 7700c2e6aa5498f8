"""From what a daemon or a database says of an item to a `StoreItem`, nothing taken on trust.

Both are on our side, yet what they say is signed and published, so a path of another store or a
size that is none must not get any further. SQLite has no strict types, hence `object`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from guix_glue.errors import InvalidFacts, InvalidStorePath
from guix_glue.formats.store_path import check_store_path
from guix_glue.model import StoreItem

__all__ = ["checked_item", "parse_database_hash"]

_DATABASE_HASH: Final = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)
# What SQLite, and with it the daemon, can keep.
_MAX_SIZE: Final = 2**63 - 1
# `fixed:r:sha256:…`, `text:sha256:…`, and what later versions of Nix may write in such words.
_CONTENT_ADDRESS: Final = re.compile(r"[a-z]+(:[0-9A-Za-z+/=-]{1,128}){2,4}", re.ASCII)
# `name:base64`: of Ed25519 88 digits, of what may come after it more.
_SIGNATURE: Final = re.compile(r"[!-9;-~]{1,255}:[0-9A-Za-z+/=]{1,1024}", re.ASCII)
_MAX_SIGNATURES: Final = 64
"""Of one item; a reader of narinfos takes a thousand lines, of all kinds."""


def checked_item(
    store_dir: str,
    path: object,
    *,
    nar_hash: bytes,
    nar_size: object,
    references: Iterable[object],
    deriver: object,
    content_address: object = None,
    signatures: object = None,
) -> StoreItem:
    """Make a `StoreItem` of full paths, a hash of 32 bytes and a size.

    `content_address` and `signatures` are what the database of Nix has, or None; of signatures
    those that look like none are left out, as whoever reads a signature may know none of them.
    Raises: InvalidFacts, if a path is none of the store at `store_dir`, or the size or the content
    address is none.
    """
    _base_name(path, store_dir)
    if not isinstance(nar_size, int) or not 0 < nar_size <= _MAX_SIZE:
        raise InvalidFacts(f"the nar size of {path} is said to be {nar_size!r}")
    return StoreItem(
        path=str(path),
        nar_hash=nar_hash,
        nar_size=nar_size,
        references=tuple(sorted({_base_name(reference, store_dir) for reference in references})),
        deriver=None if deriver in (None, "") else _base_name(deriver, store_dir),
        content_address=_content_address(path, content_address),
        signatures=_signatures(signatures),
    )


def parse_database_hash(text: object) -> bytes:
    """`sha256:<64 hex digits>` -> 32 bytes. Raises: InvalidFacts."""
    found = _DATABASE_HASH.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise InvalidFacts(f"the store's database has a hash that is none: {text!r}")
    return bytes.fromhex(found[1])


def _content_address(path: object, text: object) -> str | None:
    if text is None or text == "":
        return None
    if not isinstance(text, str) or not _CONTENT_ADDRESS.fullmatch(text):
        raise InvalidFacts(f"the content address of {path} is said to be {text!r}")
    return text


def _signatures(text: object) -> tuple[str, ...]:
    words = text.split() if isinstance(text, str) else ()
    return tuple(dict.fromkeys(filter(_SIGNATURE.fullmatch, words)))[:_MAX_SIGNATURES]


def _base_name(path: object, store_dir: str) -> str:
    if not isinstance(path, str):
        raise InvalidFacts(f"a store path is said to be {path!r}")
    try:
        return check_store_path(path, store_dir)
    except InvalidStorePath as error:
        raise InvalidFacts(f"what is said of the store is wrong: {error}") from error
