"""Documentation is tested too: nothing that a user can type is left out."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest

from kapla.__main__ import command as kaplad
from kapla.cli.main import EXIT_CODES
from kapla.config import load_config
from kapla.config.lines import key_lines
from kapla.config.table import BY_KEY, SETTINGS

REPOSITORY = Path(__file__).resolve().parent.parent
CLI = REPOSITORY / "docs" / "cli.md"
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
    section = CLI.read_text().split("### Settings")[1].split("### Listeners")[0]
    rows = re.findall(r"^\| `([a-z-]+)` \| `(KAPLA_[A-Z_]+)` \|", section, re.MULTILINE)
    assert dict(rows) == {setting.key: setting.variable for setting in SETTINGS}
    assert len(rows) == len(SETTINGS)


def test_what_a_hangup_changes_is_in_the_documentation() -> None:
    section = CLI.read_text().split("### Signals")[1].split("### Log")[0]
    told = section.split("SIGHUP: ")[1].split("Of any other")[0]
    keys = set(re.findall(r"`([a-z-]+)`", told))
    assert keys == {setting.key for setting in SETTINGS if setting.reloads}


def test_every_variable_of_a_setting_is_in_the_table_of_the_environment() -> None:
    section = CLI.read_text().split("## Environment")[1]
    assert not [one.variable for one in SETTINGS if f"`{one.variable}`" not in section]


def test_the_packaged_settings_are_sound_with_all_that_is_commented_out(tmp_path: Path) -> None:
    packaged = (REPOSITORY / "packaging" / "kapla.toml").read_text()
    # A line that would be a setting without its # is one.
    told = re.sub(r"^(\s*)# (?=[a-z-]+ = |\"coap)", r"\1", packaged, flags=re.MULTILINE)
    file = tmp_path / "kapla.toml"
    file.write_text(told)
    keys = {key for key, *_ in key_lines(told)}
    assert len(keys) > 5
    config = load_config(file=str(file), environment={})
    assert keys <= BY_KEY.keys()
    assert len(config.listen) > 1


def test_every_exit_code_is_in_the_documentation() -> None:
    lines = [line for line in CLI.read_text().splitlines() if line.startswith("| ")]
    for code, _, _ in EXIT_CODES:
        assert any(line.startswith(f"| {code} |") for line in lines), code
