"""Narinfos: what a server says of a store item, and where its nar is.

Read by the rules of the stock client, which are those of recutils, and kept apart by whether the
signature covers it: the signed text is everything before the first `Signature:`, byte for byte.
What makes the stock client die (no URL, an unknown compression) is no error here: whoever chooses a
source sees what is left. Values that go into file names or into the daemon's dialogue are checked.

An ERIS capability is `signed_urn` only if its line stands before the signature; anywhere else it is
a hint, which may come from anybody.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from guix_glue.errors import InvalidEncoding, InvalidNarinfo, InvalidStorePath
from guix_glue.formats.store_path import check_base_name, check_store_path, format_hash, parse_hash
from guix_glue.model import StoreItem

__all__ = [
    "MAX_REFERENCES",
    "MAX_SIZE",
    "MAX_URLS",
    "NarUrl",
    "Narinfo",
    "format_narinfo",
    "format_unsigned",
    "parse_narinfo",
]

MAX_SIZE: Final = 1024 * 1024
"""Bytes of a narinfo: several times what an item with thousands of references has."""

MAX_REFERENCES: Final = 10_000
MAX_URLS: Final = 64

_LARGEST: Final = 1 << 62
_SIGNATURE: Final = "Signature:"
_DIGITS: Final = re.compile("[0-9]{1,19}")
# Nix for an item that nobody knows the deriver of.
_UNKNOWN_DERIVER: Final = "unknown-deriver"


@dataclass(frozen=True, slots=True)
class NarUrl:
    """One place of the nar: relative to the server or absolute; sizes in bytes, as compressed."""

    url: str
    compression: str = "none"
    file_size: int | None = None
    file_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Narinfo:
    """A narinfo as read; nothing in it is verified.

    `text` is all of it, `signed_text` what the signature covers and `signature` the value of its
    line, both None if there is no such line.
    """

    item: StoreItem
    urls: tuple[NarUrl, ...]
    text: str
    signed_text: str | None
    signature: str | None
    signed_fields: frozenset[str]
    signed_urn: str | None = None
    hint_urn: str | None = None
    nix_signatures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    value: str
    line: int


def parse_narinfo(data: bytes, *, store_dir: str) -> Narinfo:
    """Read a narinfo for an item of this store.

    At most `MAX_SIZE` bytes, `MAX_REFERENCES` and `MAX_URLS`. Line ends are LF: with CR LF a
    signature covers what no reader would take as meant.
    Raises: InvalidNarinfo.
    """
    text = _decode(data)
    fields = _Fields(_read_fields(text))
    start = text.find(_SIGNATURE)
    signed_text = None if start < 0 else text[:start]
    signed = _Fields(_read_fields(signed_text)) if signed_text is not None else _Fields([])
    return Narinfo(
        item=_read_item(fields, store_dir),
        urls=_read_urls(fields),
        text=text,
        signed_text=signed_text,
        signature=fields.first("Signature"),
        signed_fields=frozenset(signed.names),
        signed_urn=signed.first("ERIS"),
        hint_urn=_hint(fields, signed),
        nix_signatures=tuple(fields.all("Sig")),
    )


def _decode(data: bytes) -> str:
    if len(data) > MAX_SIZE:
        raise InvalidNarinfo(f"it has more than {MAX_SIZE} bytes")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidNarinfo("it is not UTF-8") from None
    for letter, what in (("\r", "a carriage return"), ("\0", "a NUL")):
        at = text.find(letter)
        if at >= 0:
            raise InvalidNarinfo(f"it contains {what}", line=text.count("\n", 0, at) + 1)
    return text


def _read_fields(text: str) -> list[_Field]:
    """The fields up to the first empty line, by the rules of recutils."""
    fields: list[_Field] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line:
            break
        if line.startswith("#"):
            continue
        if line.startswith("+"):
            if not fields:
                raise InvalidNarinfo("a continuation continues nothing", line=number)
            last = fields[-1]
            more = line[1:].removeprefix(" ")
            fields[-1] = _Field(last.name, f"{last.value}\n{more}", last.line)
            continue
        name, colon, value = line.partition(":")
        if not colon:
            raise InvalidNarinfo("a line has no colon", line=number)
        fields.append(_Field(name, value.lstrip(" \t"), number))
    return fields


class _Fields:
    """Fields by name. Of a name that may stand once, the first counts."""

    def __init__(self, fields: list[_Field]) -> None:
        self._fields: dict[str, list[_Field]] = {}
        for field in fields:
            self._fields.setdefault(field.name, []).append(field)
        self.names = self._fields.keys()

    def first(self, name: str) -> str | None:
        found = self._fields.get(name)
        return found[0].value if found else None

    def all(self, name: str) -> list[str]:
        return [field.value for field in self._fields.get(name, [])]

    def need(self, name: str) -> str:
        value = self.first(name)
        if value is None:
            raise InvalidNarinfo("it is missing", field=name)
        return value

    def error(self, name: str, reason: str) -> InvalidNarinfo:
        return InvalidNarinfo(reason, line=self._fields[name][0].line, field=name)


def _read_item(fields: _Fields, store_dir: str) -> StoreItem:
    path = fields.need("StorePath")
    try:
        check_store_path(path, store_dir)
    except InvalidStorePath as error:
        raise fields.error("StorePath", error.reason) from None
    try:
        nar_hash = parse_hash(fields.need("NarHash"))
    except InvalidEncoding as error:
        raise fields.error("NarHash", str(error)) from None
    return StoreItem(
        path=path,
        nar_hash=nar_hash,
        nar_size=_read_size(fields, "NarSize", fields.need("NarSize")),
        references=_read_references(fields),
        deriver=_read_deriver(fields),
    )


def _read_size(fields: _Fields, name: str, value: str) -> int:
    if not _DIGITS.fullmatch(value) or int(value) > _LARGEST:
        raise fields.error(name, "it is no size in bytes")
    return int(value)


def _read_references(fields: _Fields) -> tuple[str, ...]:
    names = fields.need("References").split()
    if len(names) > MAX_REFERENCES:
        raise fields.error("References", f"there are more than {MAX_REFERENCES}")
    try:
        for name in names:
            check_base_name(name)
    except InvalidStorePath as error:
        raise fields.error("References", error.reason) from None
    return tuple(names)


def _read_deriver(fields: _Fields) -> str | None:
    deriver = fields.first("Deriver")
    if not deriver or deriver == _UNKNOWN_DERIVER:
        return None
    try:
        return check_base_name(deriver)
    except InvalidStorePath as error:
        raise fields.error("Deriver", error.reason) from None


def _read_urls(fields: _Fields) -> tuple[NarUrl, ...]:
    """The places of the nar: matched by position, as many as the shortest of the lists has.

    Compressions may be missing altogether, as in Nix, which then means bzip2; so may the sizes.
    """
    urls, methods = fields.all("URL"), fields.all("Compression")
    sizes, hashes = fields.all("FileSize"), fields.all("FileHash")
    count = min(len(found) for found in (urls, methods or urls, sizes or urls))
    if count > MAX_URLS:
        raise fields.error("URL", f"there are more than {MAX_URLS}")
    found = []
    for place in range(count):
        url = urls[place]
        # Nothing that could end a line of a message, a header or a request.
        if not url.isprintable() or not url.isascii() or " " in url:
            continue
        found.append(
            NarUrl(
                url,
                methods[place] if methods else "bzip2",
                _read_size(fields, "FileSize", sizes[place]) if sizes else None,
                hashes[place] if len(hashes) == len(urls) else None,
            )
        )
    return tuple(found)


def _hint(fields: _Fields, signed: _Fields) -> str | None:
    """The first URN that nobody signed."""
    names = fields.all("ERIS")[len(signed.all("ERIS")) :]
    return names[0] if names else None


def format_unsigned(item: StoreItem, urn: str | None = None) -> str:
    """Write what is signed, or would be: everything up to the `Signature` line."""
    lines = [
        f"StorePath: {item.path}",
        f"NarHash: {format_hash(item.nar_hash)}",
        f"NarSize: {item.nar_size}",
        *([f"ERIS: {urn}"] if urn else []),
        f"References: {' '.join(item.references)}",
        *([f"Deriver: {item.deriver}"] if item.deriver else []),
    ]
    return "".join(f"{line}\n" for line in lines)


def format_narinfo(
    unsigned: str,
    signature: str | None,
    urls: Sequence[NarUrl],
    *,
    hint: str | None = None,
    nix_signatures: Sequence[str] = (),
) -> bytes:
    """Write a whole narinfo: what is signed, the value of the signature, and what nobody signs.

    `FileSize` is given for all URLs or for none: a reader matches the lists by position.
    """
    sized = all(url.file_size is not None for url in urls)
    lines = chain(
        [f"{_SIGNATURE} {signature}"] if signature is not None else [],
        [f"Sig: {value}" for value in nix_signatures],
        [f"ERIS: {hint}"] if hint is not None else [],
        *(_format_url(url, sized) for url in urls),
    )
    return (unsigned + "".join(f"{line}\n" for line in lines)).encode()


def _format_url(url: NarUrl, sized: bool) -> list[str]:
    lines = [f"URL: {url.url}", f"Compression: {url.compression}"]
    if sized:
        lines.append(f"FileSize: {url.file_size}")
    if url.file_hash is not None:
        lines.append(f"FileHash: {url.file_hash}")
    return lines
