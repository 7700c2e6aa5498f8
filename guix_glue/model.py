"""What is known of a store item, as a value, wherever it was learned."""

from __future__ import annotations

from dataclasses import dataclass

from guix_glue.formats.store_path import hash_part_of

__all__ = ["StoreItem"]


@dataclass(frozen=True, slots=True)
class StoreItem:
    """A valid store item: where it is, what its nar is, what it needs.

    `path` is the whole path, as `/gnu/store/HASH-NAME`; `nar_hash` the SHA-256 of its nar (32
    bytes) and `nar_size` the bytes of that; `references` and `deriver` are base names, the
    references sorted. `content_address` is what Nix calls `CA`, of what is named by its content,
    and `signatures` what others have signed for it: `name:base64`. Guix has neither.
    """

    path: str
    nar_hash: bytes
    nar_size: int
    references: tuple[str, ...]
    deriver: str | None = None
    content_address: str | None = None
    signatures: tuple[str, ...] = ()

    @property
    def store_dir(self) -> str:
        """The directory it is in, as `/gnu/store`."""
        return self.path.rpartition("/")[0]

    @property
    def base_name(self) -> str:
        """`HASH-NAME`."""
        return self.path.rpartition("/")[2]

    @property
    def hash_part(self) -> str:
        """The 32 characters by which servers and the daemon look it up."""
        return hash_part_of(self.path)

    @property
    def name(self) -> str:
        """What stands behind the hash part."""
        return self.base_name[33:]
