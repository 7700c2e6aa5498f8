"""Narinfos: what a server says of a store item, and where its nar is.

Read by the rules of the stock client, which are those of recutils, and kept apart by whether the
signature covers it: the signed text is everything before the first `Signature:`, byte for byte.
What makes the stock client die (no URL, an unknown compression) is no error here: whoever chooses a
source sees what is left. Values that go into file names or into the daemon's dialogue are checked.

An ERIS capability is `signed_urn` only if its line stands before the signature; anywhere else it is
a hint, which may come from anybody. The same holds for deltas, `ERIS-Delta: BASE-NAME URN`; a line
of these that is wrong is passed over, as nobody needs a delta.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Final, NamedTuple

from guix_glue.errors import InvalidEncoding, InvalidNarinfo, InvalidStorePath
from guix_glue.formats.store_path import check_base_name, check_store_path, format_hash, parse_hash
from guix_glue.model import StoreItem

__all__ = [
    "DEFAULT_NARINFO_LIMITS",
    "MAX_DELTAS",
    "DeltaLine",
    "NarUrl",
    "Narinfo",
    "NarinfoLimits",
    "format_narinfo",
    "format_unsigned",
    "parse_narinfo",
]

MAX_DELTAS: Final = 8
"""So many lines of deltas count, the first ones; of those behind the signature as many again."""

_LARGEST: Final = 1 << 62
_SIGNATURE: Final = "Signature:"
_ONE_LINE: Final = frozenset(
    [
        "StorePath",
        "NarHash",
        "NarSize",
        "ERIS",
        "ERIS-Delta",
        "Deriver",
        "Signature",
        "Sig",
        "URL",
        "Compression",
        "FileSize",
        "FileHash",
    ]
)
_DIGITS: Final = re.compile("[0-9]{1,19}")
# Nix for an item that nobody knows the deriver of.
_UNKNOWN_DERIVER: Final = "unknown-deriver"


@dataclass(frozen=True, slots=True)
class NarinfoLimits:
    """How large a narinfo may be.

    `size` counts bytes. Real ones have one or two thousand, the longest (TeX) some ten thousand, in
    some twenty lines with four URLs; here there is room for four thousand references.
    """

    size: int = 256 * 1024
    lines: int = 1_000
    urls: int = 64


DEFAULT_NARINFO_LIMITS: Final = NarinfoLimits()


@dataclass(frozen=True, slots=True)
class NarUrl:
    """One place of the nar: relative to the server or absolute; sizes in bytes, as compressed."""

    url: str
    compression: str = "none"
    file_size: int | None = None
    file_hash: str | None = None


@dataclass(frozen=True, slots=True)
class DeltaLine:
    """A delta that leads to the item, for whoever has the item `base` (`HASH-NAME`)."""

    base: str
    urn: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Narinfo:
    """A narinfo as read; nothing in it is verified.

    `text` is all of it, `signed_text` what the signature covers and `signature` the value of its
    line, both None if there is no such line. A repr shows no URN, which is a read capability.
    """

    item: StoreItem
    urls: tuple[NarUrl, ...]
    text: str = field(repr=False)
    signed_text: str | None = field(repr=False)
    signature: str | None
    signed_fields: frozenset[str]
    signed_urn: str | None = field(default=None, repr=False)
    hint_urn: str | None = field(default=None, repr=False)
    nix_signatures: tuple[str, ...] = ()
    signed_deltas: tuple[DeltaLine, ...] = ()
    hint_deltas: tuple[DeltaLine, ...] = ()


class _Field(NamedTuple):
    name: str
    value: str
    line: int

    def error(self, reason: str) -> InvalidNarinfo:
        return InvalidNarinfo(reason, line=self.line, field=self.name)


class _Fields:
    """Fields by name. Of a name that may stand once, the first counts."""

    def __init__(self, fields: Iterable[_Field]) -> None:
        self._fields: dict[str, list[_Field]] = {}
        for one in fields:
            self._fields.setdefault(one.name, []).append(one)

    def all(self, name: str) -> list[_Field]:
        return self._fields.get(name, [])

    def first(self, name: str) -> str | None:
        found = self.all(name)
        return found[0].value if found else None

    def need(self, name: str) -> _Field:
        found = self.all(name)
        if not found:
            raise InvalidNarinfo("it is missing", field=name)
        return found[0]

    def before(self, line: int) -> frozenset[str]:
        """The names of which a field begins above a line."""
        return frozenset(name for name, found in self._fields.items() if found[0].line < line)


def parse_narinfo(
    data: bytes, *, store_dir: str, limits: NarinfoLimits = DEFAULT_NARINFO_LIMITS
) -> Narinfo:
    """Read a narinfo for an item of this store.

    Line ends are LF: with CR LF a signature covers what no reader would take as meant.
    Raises: InvalidNarinfo.
    """
    text = _decode(data, limits)
    fields = _Fields(_read_fields(text))
    start = text.find(_SIGNATURE)
    signed_text = None if start < 0 else text[:start]
    # The first line that the signature does not cover, at least not as a whole.
    limit = 0 if signed_text is None else signed_text.count("\n") + 1
    signed_urn, hint_urn = _read_urns(fields, limit)
    signed_deltas, hint_deltas = _read_deltas(fields, limit)
    return Narinfo(
        item=_read_item(fields, store_dir),
        urls=_read_urls(fields, limits),
        text=text,
        signed_text=signed_text,
        signature=fields.first("Signature"),
        signed_fields=fields.before(limit),
        signed_urn=signed_urn,
        hint_urn=hint_urn,
        nix_signatures=tuple(field.value for field in fields.all("Sig")),
        signed_deltas=signed_deltas,
        hint_deltas=hint_deltas,
    )


def _decode(data: bytes, limits: NarinfoLimits) -> str:
    if len(data) > limits.size:
        raise InvalidNarinfo(f"it has more than {limits.size} bytes")
    if data.count(b"\n") > limits.lines:
        raise InvalidNarinfo(f"it has more than {limits.lines} lines")
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
            if last.name in _ONE_LINE:
                # A reader that writes such a value again would write lines of somebody's own.
                raise InvalidNarinfo("it goes on in another line", line=number, field=last.name)
            more = line[1:].removeprefix(" ")
            fields[-1] = last._replace(value=f"{last.value}\n{more}")
            continue
        name, colon, value = line.partition(":")
        if not colon:
            raise InvalidNarinfo("a line has no colon", line=number)
        fields.append(_Field(name, value.lstrip(" \t"), number))
    return fields


def _read_item(fields: _Fields, store_dir: str) -> StoreItem:
    path, nar_hash = fields.need("StorePath"), fields.need("NarHash")
    try:
        check_store_path(path.value, store_dir)
    except InvalidStorePath as error:
        raise path.error(error.reason) from None
    try:
        digest = parse_hash(nar_hash.value)
    except InvalidEncoding as error:
        raise nar_hash.error(str(error)) from None
    return StoreItem(
        path=path.value,
        nar_hash=digest,
        nar_size=_read_size(fields.need("NarSize")),
        references=_read_references(fields.need("References")),
        deriver=_read_deriver(fields),
    )


def _read_size(field: _Field) -> int:
    if not _DIGITS.fullmatch(field.value) or int(field.value) > _LARGEST:
        raise field.error("it is no size in bytes")
    return int(field.value)


def _read_references(field: _Field) -> tuple[str, ...]:
    names = field.value.split()
    try:
        for name in names:
            check_base_name(name)
    except InvalidStorePath as error:
        raise field.error(error.reason) from None
    return tuple(names)


def _read_deriver(fields: _Fields) -> str | None:
    found = fields.all("Deriver")
    if not found or found[0].value in ("", _UNKNOWN_DERIVER):
        return None
    try:
        return check_base_name(found[0].value)
    except InvalidStorePath as error:
        raise found[0].error(error.reason) from None


def _read_urls(fields: _Fields, limits: NarinfoLimits) -> tuple[NarUrl, ...]:
    """The places of the nar: matched by position, as many as the shortest of the lists has.

    Compressions may be missing altogether, as in Nix, which then means bzip2; so may the sizes.
    """
    urls, methods = fields.all("URL"), fields.all("Compression")
    sizes, hashes = fields.all("FileSize"), fields.all("FileHash")
    count = min(len(found) for found in (urls, methods or urls, sizes or urls))
    if count > limits.urls:
        raise urls[limits.urls].error(f"there are more than {limits.urls}")
    found = []
    for place in range(count):
        url = urls[place].value
        # Nothing that could end a line of a message, a header or a request.
        if not url.isprintable() or not url.isascii() or " " in url:
            continue
        found.append(
            NarUrl(
                url,
                methods[place].value if methods else "bzip2",
                _read_size(sizes[place]) if sizes else None,
                hashes[place].value if len(hashes) == len(urls) else None,
            )
        )
    return tuple(found)


def _read_urns(fields: _Fields, limit: int) -> tuple[str | None, str | None]:
    """The first URN above the line where what is signed ends, and the first that is not."""
    found = fields.all("ERIS")
    signed = [field.value for field in found if field.line < limit]
    others = [field.value for field in found if field.line >= limit]
    return (signed[0] if signed else None, others[0] if others else None)


def _read_deltas(
    fields: _Fields, limit: int
) -> tuple[tuple[DeltaLine, ...], tuple[DeltaLine, ...]]:
    """The deltas above the line where what is signed ends, and those that are not."""
    found = fields.all("ERIS-Delta")
    signed = _delta_lines(field for field in found if field.line < limit)
    others = _delta_lines(field for field in found if field.line >= limit)
    return signed, others


def _delta_lines(fields: Iterable[_Field]) -> tuple[DeltaLine, ...]:
    lines = (line for field in fields if (line := _delta_line(field.value)) is not None)
    return tuple(islice(lines, MAX_DELTAS))


def _delta_line(value: str) -> DeltaLine | None:
    match value.split():
        case [base, urn] if urn.isprintable() and urn.isascii():
            with suppress(InvalidStorePath):
                return DeltaLine(check_base_name(base), urn)
    return None


def format_unsigned(
    item: StoreItem, urn: str | None = None, deltas: Sequence[DeltaLine] = ()
) -> str:
    """Write what is signed, or would be: everything up to the `Signature` line.

    Deltas are written in this order, the best one first.
    """
    lines = [
        f"StorePath: {item.path}",
        f"NarHash: {format_hash(item.nar_hash)}",
        f"NarSize: {item.nar_size}",
        *([f"ERIS: {urn}"] if urn else []),
        *map(_format_delta, deltas),
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
    hint_deltas: Sequence[DeltaLine] = (),
    nix_signatures: Sequence[str] = (),
    content_address: str | None = None,
) -> bytes:
    """Write a whole narinfo: what is signed, the value of the signature, and what nobody signs.

    `content_address` is the line `CA` of Nix, which proves itself.

    `FileSize` is given for all URLs or for none, and so is `FileHash`: a reader matches the lists
    by position, or takes the last of each.
    Raises: ValueError, for a value that would be more than one line.
    """
    sized = all(url.file_size is not None for url in urls)
    hashed = all(url.file_hash is not None for url in urls)
    lines = chain(
        [f"{_SIGNATURE} {signature}"] if signature is not None else [],
        [f"Sig: {value}" for value in nix_signatures],
        [f"CA: {content_address}"] if content_address is not None else [],
        [f"ERIS: {hint}"] if hint is not None else [],
        map(_format_delta, hint_deltas),
        *(_format_url(url, sized=sized, hashed=hashed) for url in urls),
    )
    text = [f"{line}\n" for line in lines]
    if any(line.count("\n") != 1 for line in text):
        raise ValueError("a value of the narinfo has a line break")
    return (unsigned + "".join(text)).encode()


def _format_delta(line: DeltaLine) -> str:
    return f"ERIS-Delta: {line.base} {line.urn}"


def _format_url(url: NarUrl, *, sized: bool, hashed: bool) -> list[str]:
    lines = [f"URL: {url.url}", f"Compression: {url.compression}"]
    if sized:
        lines.append(f"FileSize: {url.file_size}")
    if hashed:
        lines.append(f"FileHash: {url.file_hash}")
    return lines
