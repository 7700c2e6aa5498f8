"""Check what the documents say against the tree: links, make targets, commands, paths.

Reads README.md and every Markdown file under docs/. Prints one line a finding, and exits 1 if
there is any.
"""

from __future__ import annotations

import configparser
import re
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from urllib.parse import unquote

REPOSITORY = Path(__file__).resolve().parent.parent

FENCE = re.compile(r"^(```|~~~).*?^\1[^\S\n]*$", re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)>\s]+)>?[^)]*\)|^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
TARGET = re.compile(r"^([a-z][a-z -]*):(?!=)", re.MULTILINE)
MAKE_COMMAND = re.compile(r"(?:^|[;&|$]\s*)make\b([^;&|#\n]*)", re.MULTILINE)


def line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def blank(match: re.Match[str]) -> str:
    """Spaces in place of a match, so that positions and line numbers stay."""
    return re.sub(r"[^\n]", " ", match.group())


def anchors(text: str) -> set[str]:
    """The fragments that a page's headings give rise to, as code hosts make them."""
    found: set[str] = set()
    for heading in HEADING.findall(FENCE.sub(blank, text)):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        # The second of two equal ones gets a number.
        names = (f"{slug}-{n}" if n else slug for n in count())
        found.add(next(name for name in names if name not in found))
    return found


def check_links(page: Path, text: str) -> Iterator[tuple[int, str]]:
    for match in LINK.finditer(CODE_SPAN.sub(blank, FENCE.sub(blank, text))):
        link = match.group(1) or match.group(2)
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        path, _, fragment = unquote(link).partition("#")
        target = (page.parent / path) if path else page
        line = line_of(text, match.start())
        if not target.exists():
            yield line, f"the link to {link} leads nowhere"
        elif fragment and target.suffix == ".md" and fragment not in anchors(target.read_text()):
            yield line, f"{path or 'this page'} has no heading for #{fragment}"


def code_pieces(text: str) -> Iterator[tuple[int, str]]:
    """Fenced code, and code in running text, each with its position."""
    for match in FENCE.finditer(text):
        yield match.start(), match.group()
    for match in CODE_SPAN.finditer(FENCE.sub(blank, text)):
        yield match.start(1), match.group(1)


def check_make_targets(text: str, targets: set[str]) -> Iterator[tuple[int, str]]:
    for position, code in code_pieces(text):
        for match in MAKE_COMMAND.finditer(code):
            line = line_of(text, position + match.start(1))
            for word in match.group(1).split():
                if not word.startswith("-") and "=" not in word and word not in targets:
                    yield line, f"there is no make target {word!r}"


def check_paths(text: str) -> Iterator[tuple[int, str]]:
    for private in {REPOSITORY, Path.home()}:
        # A home of "/" would match everything.
        if len(private.parts) < 2:
            continue
        for match in re.finditer(re.escape(str(private)) + r"(?![\w-])", text):
            yield line_of(text, match.start()), f"{private} is a path of one machine only"


def check_commands() -> Iterator[str]:
    settings = configparser.ConfigParser()
    settings.read(REPOSITORY / "setup.cfg")
    points = settings["options.entry_points"]["kapla.commands"].split("\n")
    commands = ["kaplad"] + [f"kapla {p.partition('=')[0].strip()}" for p in points if p.strip()]
    page = REPOSITORY / "docs" / "cli.md"
    text = page.read_text() if page.exists() else ""
    for command in commands:
        if not re.search(rf"\b{command}\b", text):
            yield f"docs/cli.md: does not mention `{command}`"


def findings() -> Iterator[str]:
    pages = [REPOSITORY / "README.md", *sorted(REPOSITORY.glob("docs/**/*.md"))]
    targets = {
        target
        for line in TARGET.findall((REPOSITORY / "Makefile").read_text())
        for target in line.split()
    }
    for page in pages:
        name = page.relative_to(REPOSITORY)
        if not page.exists():
            yield f"{name}: is missing"
            continue
        text = page.read_text()
        checks = (check_links(page, text), check_make_targets(text, targets), check_paths(text))
        for check in checks:
            yield from (f"{name}:{line}: {finding}" for line, finding in check)
    yield from check_commands()


def main() -> int:
    found = list(findings())
    for finding in found:
        print(finding)
    print(f"docs: {len(found)} findings" if found else "docs: all links, targets and commands hold")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
