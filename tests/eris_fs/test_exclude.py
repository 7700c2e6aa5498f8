"""Patterns of what is left out: as git has them, bounded, and before anything is opened."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from eris_fs import (
    EmptyDirectory,
    InvalidPattern,
    NotUtf8,
    OpenFile,
    Patterns,
    Selection,
    TreeTooLarge,
    measure_tree,
    parse_pattern,
    parse_patterns,
    scan_tree,
)
from eris_fs.model import Limits
from tests.eris_fs.trees import File, Node, lay_out
from tests.examples import examples

EMPTY = File(b"")
TREE: Node = {
    "a": EMPTY,
    "b": {"a": EMPTY, "b": {"a": {"ab": EMPTY}, "b": EMPTY}, "ab": EMPTY, "a.b": EMPTY},
    "ab": {"a": EMPTY, "ba": {"a": EMPTY, "b]": EMPTY}},
    "a b": {"a": EMPTY, "b ": EMPTY},
    ".a": EMPTY,
    "#a": EMPTY,
    "!a": EMPTY,
    "a-b": EMPTY,
    "a*b": EMPTY,
    "aab": EMPTY,
    "[a]": EMPTY,
    "a\\b": {"a": EMPTY},
    "-": EMPTY,
    "]": EMPTY,
}


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        lay_out(TREE, Path(name, "tree"))
        yield Path(name, "tree")


def kept(root: Path, text: str) -> set[str]:
    """The files that a scan finds."""
    patterns = Patterns(parse_patterns(text))
    seen = set()
    for path, found in scan_tree(root, selection=Selection(patterns)):
        if isinstance(found, OpenFile):
            found.close()
            seen.add("/".join(path))
    return seen


def kept_by_git(root: Path, text: str) -> set[str]:
    patterns = root.parent / "patterns"
    patterns.write_text(text)
    directory = root.parent / "git"
    git = ["git", f"--git-dir={directory}", f"--work-tree={root}"]
    if not directory.exists():
        subprocess.run([*git, "init", "-q"], check=True, env={**os.environ, "HOME": str(root)})
    listing = [*git, "ls-files", "-z", "--others", f"--exclude-from={patterns}"]
    found = subprocess.run(listing, check=True, capture_output=True, cwd=root)
    return {os.fsdecode(name) for name in found.stdout.split(b"\0")[:-1]}


GIVEN = [
    "a",
    "/a",
    "a/",
    "b/",
    "/b/",
    "b/a",
    "/b/b/a",
    "**/a",
    "b/**",
    "b/**/a",
    "**/b/a",
    "/**/a",
    "/**",
    "**",
    "*",
    "*.b",
    "a?",
    "a*b",
    "a**b",
    "*a*",
    "[ab]",
    "[!a]",
    "[^a]b",
    "a[a-c]b",
    "a[]b-]b",
    "[a-]",
    "[]]",
    "\\#a",
    "#a",
    "\\!a",
    "a\\*b",
    "a\\ b",
    "\\[a]",
    "a\\\\b",
    "a b/b\\ ",
    "a   ",
    "*\n!a",
    "*\n!b",
    "/*\n!/b",
    "b/*\n!b/ab",
    "ab/\n!ab/a",
    "\n\n# nothing\n  \na\r\n",
    "\ufeffa",
    "a/*/a",
    "*/*/*",
    "b*/**/*",
    "**/**/a",
]

_PATTERN = st.text(st.sampled_from("ab*?/[]!-\\ #^."), min_size=1, max_size=9)
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")


@needs_git
@pytest.mark.parametrize("text", GIVEN)
def test_given_patterns_mean_what_they_mean_to_git(root: Path, text: str) -> None:
    assert kept(root, text) == kept_by_git(root, text)


@needs_git
@settings(max_examples=examples(60))
@given(st.lists(_PATTERN, min_size=1, max_size=3))
@example(["a**", "!**a"])
def test_any_pattern_means_what_it_means_to_git(root: Path, lines: list[str]) -> None:
    text = "\n".join(lines)
    # Git compares the letters before the first star by themselves, and then takes `a**/b` for a
    # name a and `**/b`; by its manual that is `a*/b`.
    assume(re.search(r"[^/\n!]\*\*/", text) is None)
    try:
        found = kept(root, text)
    except InvalidPattern:
        # Git takes it for something that matches nothing, or nothing that was meant.
        assume(False)
    assert found == kept_by_git(root, text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "nothing"),
        ("!", "nothing"),
        ("/", "nothing"),
        ("a//b", "nothing"),
        ("./a", "component"),
        ("a/../b", "component"),
        ("[a", r"\[ without"),
        ("a[]", r"\[ without"),
        ("[b-a]", "range"),
        ("[[:alpha:]]", "class"),
        ("a\\", "backslash"),
        ("a" * 5000, "4096"),
        ("a\0", "NUL"),
    ],
)
def test_what_would_not_do_what_was_meant(text: str, reason: str) -> None:
    with pytest.raises(InvalidPattern, match=reason):
        parse_pattern(text)


def test_the_line_is_told() -> None:
    with pytest.raises(InvalidPattern, match=r"^line 3: .*'\[a'"):
        list(parse_patterns("# x\n\n[a\n"))


def test_there_are_only_so_many() -> None:
    with pytest.raises(ValueError, match="more than 10,000"):
        Patterns(parse_patterns("a\n" * 10_001))


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        patterns = Patterns(parse_patterns(text))
    except InvalidPattern:
        return
    patterns(("a", "b"), False)


def test_no_pattern_is_slow() -> None:
    """What would take longer than the universe lasts if stars were tried in all ways."""
    name = "a" * 254
    for text in ("*a" * 60 + "b", "a*" * 60 + "?b", "**/a/" * 200 + "b", "[ab]*" * 100 + "c"):
        assert not parse_pattern(text).matches((name,) * 100, False)


# --- what is left out is not even looked at -----------------------------------------------------


def test_what_is_excluded_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    lay_out({"kept": EMPTY, "cache": {"d": {"f": EMPTY}}, "only": {"x.o": EMPTY}}, root)
    (root / "cache" / "d").chmod(0)
    (root / "cache").chmod(0)
    os.mkfifo(root / "pipe.o")
    os.close(os.open(os.fsencode(root) + b"/caf\xe9.o", os.O_CREAT))
    monkeypatch.chdir(root)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("S.o")
    opened: list[object] = []
    real = os.open

    def noting(path: str, *rest: int, **more: int) -> int:
        opened.append(path)
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "open", noting)
    patterns = Patterns([parse_pattern("*.o"), parse_pattern("/cache/")])
    found = dict(scan_tree(root, selection=Selection(patterns), limits=Limits(entries=2)))
    assert set(found) == {("kept",), ("only",)}
    # As it was left, with nothing in it.
    assert found["only",] == EmptyDirectory()
    assert opened == [str(root), "kept", "only"]
    assert measure_tree(root, selection=Selection(patterns)).files == 1
    for one in found.values():
        if isinstance(one, OpenFile):
            one.close()


def test_names_that_are_not_utf8_are_matched(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    os.close(os.open(os.fsencode(root) + b"/caf\xe9", os.O_CREAT))
    for text in ("caf?", "caf\udce9", "c*"):
        assert dict(scan_tree(root, selection=Selection(Patterns([parse_pattern(text)])))) == {}
    with pytest.raises(NotUtf8):
        dict(scan_tree(root, selection=Selection(Patterns([parse_pattern("cafe")]))))


def test_what_is_not_excluded_counts(tmp_path: Path) -> None:
    lay_out({"a": EMPTY, "b": EMPTY}, tmp_path / "root")
    with pytest.raises(TreeTooLarge):
        list(scan_tree(tmp_path / "root", Limits(entries=1), selection=Selection(lambda *_: False)))
