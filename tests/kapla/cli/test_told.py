"""Examples and exit codes: what is told of each command is true of it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from kapla.__main__ import EXAMPLES as DAEMON_EXAMPLES
from kapla.__main__ import EXIT_CODES as DAEMON_EXIT_CODES
from kapla.__main__ import command as kaplad
from kapla.cli.commands import OWN
from kapla.cli.exit_codes import all_meanings
from kapla.cli.main import command_line
from kapla.cli.told import epilog_of, told, told_of

every_command = pytest.mark.parametrize("name", sorted(OWN))
# Of a line of 80, with the room that click leaves on both sides.
WIDTH = 76


def load(name: str) -> click.Command:
    command = command_line().get_command(click.Context(command_line()), name)
    assert command is not None
    return command


def every_part(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from every_part(inner)


def parse(line: str) -> None:
    """Read every `kapla` of a line of shell as the command line does, up to what it would do."""
    words = shlex.split(line.replace('"$(', " ").replace(')"', " | "))
    starts = [place for place, word in enumerate(words) if word == "kapla"]
    assert starts, line
    for start in starts:
        ends = [place for place, word in enumerate(words) if place > start and word in ("|", ">")]
        parse_one(command_line(), words[start + 1 : min([*ends, len(words)])])


def parse_one(group: click.Group, words: list[str]) -> None:
    context = click.Context(group)
    name, command, rest = group.resolve_command(context, words)
    assert command is not None
    if "--help" in rest:
        return
    if isinstance(command, click.Group):
        parse_one(command, rest)
    else:
        command.make_context(name, rest, parent=context)


@every_command
def test_every_example_is_understood(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("attic.pub", "hello.txt"):
        Path(file).touch()
    for part in every_part(load(name)):
        examples = told_of(part).examples
        assert examples, f"kapla {name} has no example"
        for what, line in examples:
            assert what[0].isupper() and not what.endswith((".", ":"))
            parse(line)


def test_examples_are_tried_against_the_options_that_there_are() -> None:
    with pytest.raises(click.NoSuchOption):
        parse("tar c notes | kapla encode --no-such-option -")
    with pytest.raises(click.UsageError):
        parse("kapla encode")


@every_command
def test_every_help_shows_examples_and_exit_codes(name: str) -> None:
    for part in every_part(load(name)):
        shown = part.get_help(click.Context(part, terminal_width=80, max_content_width=80))
        for what, line in told_of(part).examples:
            assert f"{what}:" in shown
            assert line in shown
        _, _, codes = shown.partition("Exit codes:")
        told_codes = [int(text.split()[0]) for text in codes.splitlines() if text.strip()]
        assert told_codes == [code for code, _ in told_of(part).exits]
        assert {0, 1, 2, 130} <= set(told_codes) <= {code for code, _ in all_meanings()}


@every_command
def test_no_help_is_wider_than_a_terminal(name: str) -> None:
    for part in every_part(load(name)):
        wide = [line for line in epilog_of(part).splitlines() if len(line) > WIDTH]
        # What has to be copied in one piece may be longer.
        assert all(line.lstrip().startswith("kapla completion") for line in wide), wide


def test_the_help_of_the_daemon_has_its_exit_codes_and_examples() -> None:
    shown = kaplad.get_help(click.Context(kaplad))
    for _, line in DAEMON_EXAMPLES:
        assert line in shown
        kaplad.make_context("kaplad", shlex.split(line)[1:], resilient_parsing=True)
    for code, text in DAEMON_EXIT_CODES:
        assert f"{code}  {text}" in shown


def test_a_command_that_says_nothing_has_all_codes() -> None:
    command = click.Command("theirs")
    assert told_of(command).exits == tuple(all_meanings())
    assert "130  interrupted" in epilog_of(command)


def test_a_code_can_mean_more_of_one_command() -> None:
    command = told(("Do it", "kapla do"), means={5: "it was bad"})(click.Command("do"))
    assert dict(told_of(command).exits)[5] == "it was bad"
    assert "Example:" in epilog_of(command)
