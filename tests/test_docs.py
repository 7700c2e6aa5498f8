"""Documentation is tested too: nothing that a user can type is left out."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest

from kapla.__main__ import command as kaplad
from kapla.cli.main import EXIT_CODES

CLI = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
COMMANDS: dict[str, click.Command] = {
    entry.name: entry.load()
    for entry in entry_points(group="kapla.commands")
    if entry.value.startswith(("kapla.", "guix_glue."))
}
every_command = pytest.mark.parametrize("name", sorted(COMMANDS))


def options_of(command: click.Command) -> list[str]:
    return [
        name
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden
        for name in parameter.opts
    ]


def test_there_are_commands() -> None:
    assert {"encode", "decode", "ls", "cat", "info", "verify", "stat"} <= COMMANDS.keys()


@every_command
def test_every_command_has_help(name: str) -> None:
    command = COMMANDS[name]
    assert command.help
    assert command.get_short_help_str()
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"kapla {name} {parameter.opts}"


@every_command
def test_every_command_and_option_is_in_the_documentation(name: str) -> None:
    text = CLI.read_text()
    assert f"kapla {name}" in text or f"`{name}`" in text
    missing = [option for option in options_of(COMMANDS[name]) if option not in text]
    assert not missing


def test_every_option_of_the_daemon_is_in_the_documentation() -> None:
    text = CLI.read_text()
    assert kaplad.help
    assert all(option in text for option in options_of(kaplad))


def test_every_setting_is_in_the_documentation() -> None:
    from kapla.config import _SETTINGS

    text = CLI.read_text()
    for key, variable, _, _ in _SETTINGS:
        assert f"`{key}`" in text
        assert f"`{variable}`" in text


def test_every_exit_code_is_in_the_documentation() -> None:
    lines = [line for line in CLI.read_text().splitlines() if line.startswith("| ")]
    for code, _, _ in EXIT_CODES:
        assert any(line.startswith(f"| {code} |") for line in lines), code
