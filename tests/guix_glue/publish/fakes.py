"""A source of replies that needs no store."""

from __future__ import annotations

from collections.abc import Sequence

from guix_glue.formats.compression import Compression
from guix_glue.serving.reply import TEXT_TYPE, Reply

__all__ = ["HASH", "NAME", "URN", "Echo"]

HASH = "7xq3qwahlz7ci18sxrm0qhmzqmafag1f"
NAME = f"{HASH}-app"
URN = f"urn:eris:BI{'A' * 104}"


class Echo:
    """A source that says what it was asked, or fails as it is told."""

    def __init__(self, failure: Exception | None = None) -> None:
        self._failure = failure

    def _say(self, *asked: object) -> Reply:
        if self._failure is not None:
            raise self._failure
        return Reply(200, TEXT_TYPE, repr(asked).encode())

    def expect(self, hash_parts: Sequence[str]) -> None:
        self.expected = list(hash_parts)

    async def narinfo(self, hash_part: str) -> Reply | None:
        return self._say("narinfo", hash_part) if hash_part == HASH else None

    async def listing(self, hash_part: str) -> Reply | None:
        return self._say("listing", hash_part) if hash_part == HASH else None

    async def nar(self, base_name: str, method: Compression) -> Reply | None:
        return self._say("nar", base_name, method.value) if base_name == NAME else None

    async def fixed_file(self, name: str, sha256: bytes) -> Reply | None:
        return self._say("file", name)

    async def build_log(self, base_name: str) -> Reply | None:
        return self._say("log", base_name)

    async def urn(self, hash_part: str) -> str | None:
        self._say("urn", hash_part)
        return URN if hash_part == HASH else None

    async def expire(self, before: float) -> None: ...

    async def sweep(self) -> None: ...

    async def close(self) -> None: ...
