"""What the site is made of, and what is checked of it once it is built."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.integration.walkthrough import DOCUMENTS
from tools.check_docs import anchors
from tools.check_site import findings
from tools.site_pages import GROUPS, contents_of_site

PICTURES = sorted((DOCUMENTS / "images").glob("*.svg"))
SVG = "{http://www.w3.org/2000/svg}"


def site(directory: Path, body: str, **pages: str) -> list[str]:
    """What is found wrong with a site of one page, `a.html`, and of `pages`."""
    for name, text in {"a": body, **pages}.items():
        (directory / f"{name}.html").write_text(f"<html><body>{text}</body></html>")
    return list(findings(directory))


@pytest.mark.parametrize(
    "body",
    [
        '<a href="b.html#there">b</a>',
        '<p id="x">x</p><a href="#x">x</a>',
        '<a href="https://purl.org/eris">ERIS</a>',
        '<a href="mailto:somebody@site.example">write</a>',
        '<img src="data:image/png;base64,AA==">',
    ],
)
def test_sound_links_are_not_complained_of(tmp_path: Path, body: str) -> None:
    assert site(tmp_path, body, b='<p id="there">b</p>') == []


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ('<a href="gone.html">gone</a>', "leads nowhere"),
        ('<a href="b.html#gone">gone</a>', "no #gone in b.html"),
        ('<a href="#gone">gone</a>', "no #gone in this page"),
        ('<a href="https://">nowhere</a>', "no URL"),
        ('<a href="javascript:alert()">run</a>', "no URL"),
        ('<script src="https://cdn.example/x.js"></script>', "another site"),
        ('<link rel="stylesheet" href="//fonts.example/x.css">', "another site"),
        ('<img src="gone.svg">', "leads nowhere"),
    ],
)
def test_what_is_wrong_is_found(tmp_path: Path, body: str, word: str) -> None:
    [finding] = site(tmp_path, body, b="b")
    assert word in finding


def test_a_style_that_loads_from_afar_is_found(tmp_path: Path) -> None:
    (tmp_path / "x.css").write_text("@font-face { src: url('https://fonts.example/f.woff2') }")
    [finding] = site(tmp_path, "a")
    assert "x.css" in finding


def test_a_site_that_is_not_there_is_not_sound(tmp_path: Path) -> None:
    assert list(findings(tmp_path))


def test_equal_headings_have_numbers() -> None:
    assert anchors("# A b\n## A b\n## `A` b!\n") == {"a-b", "a-b-1", "a-b-2"}


def test_every_page_is_in_the_contents_once() -> None:
    listed = re.findall(r"^docs/(\S+)$", contents_of_site(DOCUMENTS.parent), re.MULTILINE)
    pages = {page.relative_to(DOCUMENTS).with_suffix("") for page in DOCUMENTS.rglob("*.md")}
    there = {page.as_posix() for page in pages}
    decisions = {page for page in there if page.startswith("decisions/0")}
    assert sorted(listed) == sorted(there - decisions)
    assert len(GROUPS) > 3


@pytest.mark.parametrize(
    "package", ["eris", "eris_fs", "kapla.client", "kapla.urls", "kapla.doors.sync"]
)
def test_every_public_name_is_in_the_reference(package: str) -> None:
    page = {"kapla.client": "kapla", "kapla.urls": "kapla", "kapla.doors.sync": "doors"}.get(
        package, package
    )
    text = (DOCUMENTS / "reference" / f"{page}.md").read_text()
    named = set(re.findall(r"^\.\. auto\w+:: (\w+)$", text, re.MULTILINE))
    public = set(importlib.import_module(package).__all__)
    assert not public - named


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_a_picture_is_small_and_says_what_it_shows(picture: Path) -> None:
    assert picture.stat().st_size < 30_000
    root = ElementTree.parse(picture).getroot()
    for part in ("title", "desc"):
        told = root.find(f"{SVG}{part}")
        assert told is not None and told.text
        assert told.get("id") in root.get("aria-labelledby", "").split()
    text = picture.read_text()
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"(?:href|src)=|@import|url\((?!#)", text)


def test_there_are_pictures() -> None:
    assert {"block-tree.svg", "daemon.svg", "peers.svg"} <= {picture.name for picture in PICTURES}
