"""Check the site that was built: every link within it leads somewhere, and nothing comes from afar.

Reads each HTML page once. A link to another place of the site must have a file, and the part after
`#` an element of that name. A page may link to other sites, by a sound URL, which is not fetched;
but what a browser loads by itself, such as scripts, styles, fonts and pictures, must be here.
Prints one line a finding, and exits 1 if there is any. Usage: check_site.py DIRECTORY
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser loads without being asked, by the attribute that names it.
LOADED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "object": "data",
    "embed": "src",
}
LOADED_RELATIONS = {"stylesheet", "icon", "preload", "modulepreload"}
AFAR_IN_STYLE = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])(?:https?:)?//")


class Page(HTMLParser):
    """The names and the links of one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        self.names |= {said[name] for name in ("id", "name") if said.get(name)}
        if tag == "a" and "href" in said:
            self.links.append(said["href"])
        elif tag == "link" and LOADED_RELATIONS & set(said.get("rel", "").split()):
            self.loaded.append(said.get("href", ""))
        elif tag in LOADED and LOADED[tag] in said:
            self.loaded.append(said[LOADED[tag]])


def is_afar(url: str) -> bool:
    """Whether a URL names another host, or something that is no page."""
    parts = urlsplit(url)
    return bool(parts.scheme or parts.netloc)


def check_afar(url: str) -> str | None:
    """What is wrong with the form of a URL of another site."""
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https"):
            sound = bool(parts.hostname) and parts.port != 0 and " " not in url
        else:
            sound = parts.scheme == "mailto"
    except ValueError:
        sound = False
    return None if sound else f"{url} is no URL that a reader can follow"


def findings(site: Path) -> Iterator[str]:
    pages = {file: Page(file.read_text()) for file in sorted(site.rglob("*.html"))}
    if not pages:
        yield f"{site} has no pages: the site was not built"
    for file, page in pages.items():
        name = file.relative_to(site)
        for url in page.links:
            finding = check_afar(url) if is_afar(url) else check_near(file, url, pages)
            if finding:
                yield f"{name}: {finding}"
        for url in page.loaded:
            if url.startswith("data:"):
                continue
            if is_afar(url):
                yield f"{name}: {url} would be loaded from another site"
            elif finding := check_near(file, url, pages):
                yield f"{name}: {finding}"
    for style in sorted(site.rglob("*.css")):
        if AFAR_IN_STYLE.search(style.read_text()):
            yield f"{style.relative_to(site)}: loads something from another site"


def check_near(file: Path, url: str, pages: dict[Path, Page]) -> str | None:
    """What is wrong with a link within the site."""
    parts = urlsplit(url)
    path = unquote(parts.path)
    target = (file.parent / path).resolve() if path else file
    if not target.is_file():
        return f"the link to {url} leads nowhere"
    fragment = unquote(parts.fragment)
    if fragment and target in pages and fragment not in pages[target].names:
        return f"there is no #{fragment} in {path or 'this page'}"
    return None


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: check_site.py DIRECTORY", file=sys.stderr)
        return 2
    found = list(findings(Path(arguments[0]).resolve()))
    for finding in found:
        print(finding)
    print(f"site: {len(found)} findings" if found else f"site: {arguments[0]}, all links hold")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
