"""Narinfos: real ones to the byte, odd ones as our table says, and nothing that does harm."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guix_glue.errors import InvalidNarinfo
from guix_glue.formats.narinfo import (
    DEFAULT_NARINFO_LIMITS,
    MAX_DELTAS,
    DeltaLine,
    Narinfo,
    NarinfoLimits,
    NarUrl,
    format_narinfo,
    format_unsigned,
    parse_narinfo,
)
from guix_glue.model import StoreItem
from guix_glue.servers.url import parse_server
from guix_glue.sources.vouching import Candidate, Vouched
from guix_glue.upstream.kept_narinfos import Mirrored
from tests.guix_glue.samples import SAMPLES

REAL = sorted(
    file for file in SAMPLES.glob("narinfo/**/*.narinfo") if "variants" not in file.parent.name
)
APP = "7xq3qwahlz7ci18sxrm0qhmzqmafag1f-app-1.2.3"
HASH = "sha256:0w50pkjmqzxkn1pq0l9macnnmkz6lhavs33a73cq82s5qbk2iprv"
PLAIN = f"""StorePath: /gnu/store/{APP}
NarHash: {HASH}
NarSize: 120336
References: {APP}
Signature: 1;vm;AAAA
URL: nar/{APP}
Compression: none
FileSize: 120336
"""


def parse(text: str) -> Narinfo:
    return parse_narinfo(text.encode(), store_dir="/gnu/store")


@pytest.mark.parametrize("file", REAL, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_real_ones_are_written_again_to_the_byte(file: Path) -> None:
    found = parse_narinfo(file.read_bytes(), store_dir="/gnu/store")
    unsigned = format_unsigned(found.item, found.signed_urn)
    assert unsigned == found.signed_text
    assert format_narinfo(unsigned, found.signature, found.urls) == file.read_bytes()
    assert found.urls
    assert found.hint_urn is None


def test_the_announced_one() -> None:
    file = SAMPLES / "narinfo" / "seed-libchop-with-ERIS.narinfo"
    found = parse_narinfo(file.read_bytes(), store_dir="/gnu/store")
    assert found.signed_urn is not None
    assert found.signed_urn.startswith("urn:eris:BIARSURIJ3WYLEINE6W5")
    assert found.item.name == "libchop-0.5.2"
    assert len(found.item.references) == 14
    assert found.item.nar_size == 1021984


@pytest.mark.parametrize("file", sorted(SAMPLES.glob("nix-2.8/*.narinfo")), ids=lambda f: f.stem)
def test_those_of_nix(file: Path) -> None:
    found = parse_narinfo(file.read_bytes(), store_dir="/nix/store")
    [url] = found.urls
    assert url.compression == "zstd"
    assert (SAMPLES / "nix-2.8" / url.url).stat().st_size == url.file_size
    assert len(found.nix_signatures) == 1
    assert (found.signature, found.signed_text) == (None, None)


# --- fields -----------------------------------------------------------------------------------


def test_the_first_of_a_name_counts_and_lines_may_go_on() -> None:
    found = parse("# comment\n" + PLAIN.replace("References:", "References:\n+ ") + "NarSize: 1\n")
    assert found.item.references == (APP,)
    assert found.item.nar_size == 120336
    assert parse(PLAIN + "\nURL: nar/second-record\n").urls == parse(PLAIN).urls
    assert parse(PLAIN + "Anything: at all\n").item == parse(PLAIN).item


def test_references_may_be_none() -> None:
    assert parse(PLAIN.replace(f"References: {APP}", "References: ")).item.references == ()
    assert parse(PLAIN.replace("References: ", "Deriver: \nReferences: ")).item.deriver is None
    assert (
        parse(PLAIN.replace("References", "Deriver: unknown-deriver\nReferences")).item.deriver
        is None
    )


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("NarSize: 120336", "NarSize: -1", "NarSize"),
        ("NarSize: 120336", "NarSize: 1e3", "NarSize"),
        ("NarSize: 120336", "NarSize: 9999999999999999999", "NarSize"),
        ("NarSize: 120336\n", "", "NarSize"),
        (HASH, "sha256:123", "NarHash"),
        (HASH, HASH.replace("sha256", "md5"), "NarHash"),
        ("/gnu/store/", "/nix/store/", "StorePath"),
        ("/gnu/store/", "/gnu/store/../", "StorePath"),
        (f"References: {APP}", f"References: {APP} ../../etc/passwd", "References"),
        (f"References: {APP}\n", "", "References"),
        ("References", "Deriver: /gnu/store/x\nReferences", "Deriver"),
        ("FileSize: 120336", "FileSize: many", "FileSize"),
    ],
)
def test_wrong_fields_are_named(old: str, new: str, field: str) -> None:
    with pytest.raises(InvalidNarinfo) as caught:
        parse(PLAIN.replace(old, new, 1))
    assert caught.value.field == field
    assert caught.value.line is not None or new == ""


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"StorePath",
        b"+ more",
        PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.encode() + b"a: \0\n",
        PLAIN.encode() + b"a: " + b"x" * DEFAULT_NARINFO_LIMITS.size,
        PLAIN.encode() + b"+more\n" * DEFAULT_NARINFO_LIMITS.lines,
        PLAIN.encode() + b"URL: a\nCompression: none\nFileSize: 1\n" * 64,
    ],
    ids=range(9),
)
def test_what_is_no_narinfo(data: bytes) -> None:
    with pytest.raises(InvalidNarinfo):
        parse_narinfo(data, store_dir="/gnu/store")


@pytest.mark.parametrize(
    "limits",
    [NarinfoLimits(size=10), NarinfoLimits(lines=7), NarinfoLimits(urls=0)],
    ids=repr,
)
def test_limits_may_be_given(limits: NarinfoLimits) -> None:
    with pytest.raises(InvalidNarinfo):
        parse_narinfo(PLAIN.encode(), store_dir="/gnu/store", limits=limits)


def test_many_references() -> None:
    many = PLAIN.replace(f"References: {APP}", f"References:{f' {APP}' * 2_000}")
    assert len(parse(many).item.references) == 2_000


def test_the_group_with_a_wrong_size_is_named() -> None:
    more = "URL: b\nCompression: gzip\nFileSize: many\n"
    with pytest.raises(InvalidNarinfo) as caught:
        parse(PLAIN + more)
    assert caught.value.line == len(PLAIN.splitlines()) + 3


@pytest.mark.parametrize(
    "name", ["StorePath", "NarHash", "NarSize", "Signature", "URL", "Compression", "FileSize"]
)
def test_a_value_that_would_be_lines_of_its_own(name: str) -> None:
    [line] = [line for line in PLAIN.splitlines() if line.startswith(f"{name}:")]
    with pytest.raises(InvalidNarinfo, match="another line"):
        parse(PLAIN.replace(line, f"{line}\n+ERIS: urn:eris:EVIL"))
    with pytest.raises(ValueError, match="line break"):
        format_narinfo(PLAIN[:10], "1;vm\nERIS: urn:eris:EVIL;AAAA", [])


@pytest.mark.parametrize("url", ["nar/a b", "nar/\x1b[2J", "nar/\u2028", "nar/\u00e4"])
def test_urls_that_would_say_more_than_a_url_are_left_out(url: str) -> None:
    more = f"URL: {url}\nCompression: none\nFileSize: 1\n"
    assert parse(PLAIN + more).urls == parse(PLAIN).urls


# --- the places of the nar, as stock Guix matches them ------------------------------------------


def test_groups_are_matched_by_position_in_the_shortest_list() -> None:
    base = PLAIN[: PLAIN.index("URL")]
    groups = "URL: a\nCompression: gzip\nURL: b\nCompression: none\nFileSize: 7\n"
    assert parse(base + groups).urls == (NarUrl("a", "gzip", 7),)
    assert parse(base + "URL: a\nURL: b\nCompression: gzip\n").urls == (NarUrl("a", "gzip"),)
    assert parse(base + "URL: a\n").urls == (NarUrl("a", "bzip2"),)
    assert parse(base).urls == ()


# --- where an ERIS line stands -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "signed", "hint"),
    [
        (PLAIN, None, None),
        (PLAIN.replace("References", "ERIS: a\nReferences"), "a", None),
        (PLAIN.replace("URL", "ERIS: b\nURL"), None, "b"),
        (PLAIN + "ERIS: b\nERIS: c\n", None, "b"),
        (PLAIN.replace("References", "ERIS: a\nReferences") + "ERIS: b\n", "a", "b"),
        (PLAIN.replace("Signature", "X: Signature: 1\nERIS: b\nSignature"), None, "b"),
        (PLAIN.replace("Signature: 1;vm;AAAA\n", "ERIS: b\n"), None, "b"),
    ],
)
def test_only_what_precedes_the_signature_is_signed(
    text: str, signed: str | None, hint: str | None
) -> None:
    found = parse(text)
    assert (found.signed_urn, found.hint_urn) == (signed, hint)


def test_a_repr_shows_no_urn() -> None:
    signed = PLAIN.replace("References", "ERIS: urn:eris:ABC\nReferences")
    found = parse(f"{signed}ERIS: urn:eris:X")
    assert (found.signed_urn, found.hint_urn) == ("urn:eris:ABC", "urn:eris:X")
    server = parse_server("http://example.org")
    candidate = Candidate(server, found)
    for one in (found, candidate, Vouched(found, (candidate,)), Mirrored(server, found, 0.0)):
        assert APP in repr(one)
        assert "urn:eris" not in repr(one)


# --- where deltas stand ---------------------------------------------------------------------------

BASES = [f"{'01234567'[place] * 32}-app-1.2.{place}" for place in range(8)]


def _with_deltas(signed: str, hints: str = "") -> Narinfo:
    return parse(PLAIN.replace("References", f"{signed}References") + hints)


def test_deltas_before_the_signature_are_signed_and_all_others_hints() -> None:
    found = _with_deltas(
        f"ERIS-Delta: {BASES[0]} urn:eris:A\nERIS-Delta:  {BASES[1]}\t urn:eris:B \n",
        f"ERIS-Delta: {BASES[2]} urn:eris:C\n",
    )
    a, b, c = (DeltaLine(BASES[place], f"urn:eris:{'ABC'[place]}") for place in range(3))
    assert (found.signed_deltas, found.hint_deltas) == ((a, b), (c,))
    unsigned = parse(
        PLAIN.replace("Signature: 1;vm;AAAA\n", f"ERIS-Delta: {BASES[0]} urn:eris:A\n")
    )
    assert (unsigned.signed_deltas, unsigned.hint_deltas) == ((), (a,))
    assert (parse(PLAIN).signed_deltas, parse(PLAIN).hint_deltas) == ((), ())


@pytest.mark.parametrize(
    "value",
    [
        "",
        "urn:eris:A",
        BASES[1],
        f"{BASES[1]} urn:eris:A more",
        f"urn:eris:A {BASES[1]}",
        f"/gnu/store/{BASES[1]} urn:eris:A",
        f"{BASES[1]}/../etc urn:eris:A",
        f"../{BASES[1]} urn:eris:A",
        f"{BASES[1]} urn:eris:\x1b[2J",
        f"{BASES[1]} urn:eris:ä",
    ],
)
def test_a_wrong_line_of_a_delta_is_passed_over(value: str) -> None:
    right = f"ERIS-Delta: {BASES[0]} urn:eris:A\n"
    found = _with_deltas(f"ERIS-Delta: {value}\n{right}", f"ERIS-Delta: {value}\n{right}")
    assert found.signed_deltas == found.hint_deltas == (DeltaLine(BASES[0], "urn:eris:A"),)


def test_so_many_deltas_count_and_wrong_ones_do_not() -> None:
    lines = "".join(f"ERIS-Delta: {BASES[0]} urn:eris:{place}\n" for place in range(12))
    found = _with_deltas(f"ERIS-Delta: wrong\n{lines}", lines)
    assert len(found.signed_deltas) == len(found.hint_deltas) == MAX_DELTAS == 8
    assert [line.urn[-1] for line in found.signed_deltas] == list("01234567")


def test_a_repr_shows_no_urn_of_a_delta() -> None:
    line = f"ERIS-Delta: {BASES[0]} urn:eris:A\n"
    found = _with_deltas(line, line)
    assert BASES[0] in repr(found.signed_deltas)
    assert "urn:eris" not in f"{found!r} {found.signed_deltas} {found.hint_deltas}"


def test_deltas_are_written_where_they_belong() -> None:
    item = StoreItem(f"/gnu/store/{APP}", bytes(32), 1, ())
    lines = [DeltaLine(base, f"urn:eris:{place}") for place, base in enumerate(BASES)]
    unsigned = format_unsigned(item, "urn:eris:X", lines[:3])
    text = format_narinfo(unsigned, "1;vm;AAAA", (), hint="urn:eris:Y", hint_deltas=lines[3:])
    found = parse_narinfo(text, store_dir="/gnu/store")
    assert (found.signed_text, found.signed_urn) == (unsigned, "urn:eris:X")
    assert (found.signed_deltas, found.hint_deltas) == (tuple(lines[:3]), tuple(lines[3:]))
    assert {"ERIS", "ERIS-Delta", "References"} <= found.signed_fields


# --- writing ------------------------------------------------------------------------------------


def test_sizes_are_written_for_all_urls_or_none() -> None:
    item = StoreItem(f"/gnu/store/{APP}", bytes(32), 1, ())
    urls = (NarUrl("a", "gzip"), NarUrl("b", "none", 7))
    text = format_narinfo(format_unsigned(item), "1;vm;AAAA", urls)
    assert b"FileSize" not in text
    assert parse_narinfo(text, store_dir="/gnu/store").urls == (
        NarUrl("a", "gzip"),
        NarUrl("b", "none"),
    )


@given(
    st.binary(min_size=32, max_size=32),
    st.integers(0, 1 << 61),
    st.lists(st.from_regex(r"[a-z0-9][a-z0-9.+-]{0,20}", fullmatch=True), max_size=5),
    st.sampled_from([None, "urn:eris:ABC"]),
    st.sampled_from([None, "urn:eris:DEF"]),
)
def test_whatever_is_written_can_be_read(
    digest: bytes, size: int, names: list[str], urn: str | None, hint: str | None
) -> None:
    references = tuple(f"{APP[:32]}-{name}" for name in names)
    item = StoreItem(f"/gnu/store/{APP}", digest, size, references, f"{APP}.drv")
    unsigned = format_unsigned(item, urn)
    urls = (NarUrl("nar/a", "zstd", 7), NarUrl("nar/b", "none", 8))
    text = format_narinfo(unsigned, "1;vm;AAAA", urls, hint=hint, nix_signatures=["k:AAAA"])
    found = parse_narinfo(text, store_dir="/gnu/store")
    assert found.item == item
    assert found.urls == urls
    assert (found.signed_text, found.signature) == (unsigned, "1;vm;AAAA")
    assert (found.signed_urn, found.hint_urn) == (urn, hint)
    assert found.nix_signatures == ("k:AAAA",)


@given(st.data())
def test_garbage_is_refused_by_one_error(data: st.DataObject) -> None:
    lines = PLAIN.splitlines(keepends=True)
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(lines) - 1))
        lines[at] = data.draw(st.sampled_from(lines) | st.text(max_size=30))
    try:
        found = parse("".join(lines).encode("utf-8", "replace").decode())
    except InvalidNarinfo:
        return
    assert found.item.path.startswith("/gnu/store/")
    assert "\n" not in "".join([*found.item.references, *(url.url for url in found.urls)])


@given(st.data())
def test_altered_bytes_are_refused_by_one_error(data: st.DataObject) -> None:
    text = bytearray(data.draw(st.sampled_from(REAL)).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        text[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        found = parse_narinfo(bytes(text), store_dir="/gnu/store")
    except InvalidNarinfo:
        return
    assert found.text.encode() == bytes(text)
    if found.signed_text is not None:
        assert found.text.startswith(found.signed_text + "Signature:")
