"""What is said of arguments that cannot be: by the whole command line, in this process.

That a program says the same, and what else it must not say, is in `tests/integration`.
"""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from eris import ReadCapability
from eris.errors import ErisError
from kapla import log
from kapla.cli.exit_codes import exit_code
from kapla.cli.main import command_line
from kapla.errors import ConfigError

COMMANDS = ("cat", "decode", "encode", "info", "ls", "stat", "verify")
# Of no content anybody has, but well formed.
UNKNOWN = ReadCapability.from_bytes(bytes([10, 0]) + b"r" * 32 + b"k" * 32).to_urn()
LETTERS = UNKNOWN.removeprefix("urn:eris:")


@pytest.fixture(autouse=True)
def no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ERIS_STORE_URL", raising=False)


def run(*arguments: str) -> None:
    command_line().main(list(arguments), prog_name="kapla", standalone_mode=False)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(name: str) -> None:
    done = CliRunner().invoke(command_line(), [name, "--help"], prog_name="kapla")
    text = " ".join(done.output.split())
    assert "--store-url URL" in text
    assert "Exit codes: 0 success 1 another failure 2 wrong usage" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        [UNKNOWN],
        ["encode"],
        ["encode", "a", UNKNOWN],
        ["encode", "--block-size", "2KiB", "a"],
        ["encode", "--no-such-option", "a"],
        ["decode", UNKNOWN],
        ["stat", UNKNOWN],
    ],
)
def test_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(click.UsageError) as raised:
        run(*arguments)
    text = log.redacted_usage(raised.value)
    assert raised.value.exit_code == 2
    assert text.startswith("Usage: kapla")
    assert LETTERS not in text


@pytest.mark.parametrize(
    ("urn", "hint"),
    [
        ("", "does not begin with urn:eris:"),
        ("garbage", "does not begin with urn:eris:"),
        ("\udcff", "does not begin with urn:eris:"),
        (UNKNOWN.lower(), "write the 106 letters after urn:eris: in capitals"),
        (LETTERS, "put urn:eris: in front of its letters"),
        (LETTERS.lower(), "in front of its letters, and write these in"),
        (UNKNOWN[:-1], "105 letters after urn:eris: instead of 106: 1 missing"),
        (UNKNOWN + "A", "107 letters after urn:eris: instead of 106: 1 too many"),
        (UNKNOWN[:40] + "1" + UNKNOWN[41:], "character 32 after urn:eris: is “1”, which no URN"),
        (UNKNOWN[:40] + "0" + UNKNOWN[41:], "is the letter O meant?"),
        (UNKNOWN[:40] + " " + UNKNOWN[41:], "is a space"),
        (UNKNOWN[:-1] + "B", "its last letter is none of"),
        ("urn:blake2b:" + "A" * 52, "it names one block"),
        (UNKNOWN.replace("urn:eris:", "urn:erisx3:"), "draft"),
        (UNKNOWN.replace("urn:eris:B", "urn:eris:7"), "block-size"),
    ],
)
def test_a_bad_urn(urn: str, hint: str) -> None:
    with pytest.raises(ErisError) as raised:
        run("info", urn)
    said = str(raised.value)
    assert exit_code(raised.value) == 2
    assert said.startswith("not an ERIS read capability: ")
    assert hint in said
    assert LETTERS[:20].lower() not in said.lower()


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("coap+ws://h", "not supported"),
        ("garbage", "begins with"),
        ("/run/eris.sock", "this is a path; as a store URL it begins with coap+unix:// in front"),
        ("./eris.sock", "this is a path; a store URL is coap+unix:// and the whole path"),
        ("localhost:5683", "coap+tcp:// in front of them"),
        ("[::1]:5683", "coap+tcp:// in front of them"),
        ("none", "there is no store"),
        ("coap+unix://relative", "absolute"),
        ("coap+tcp://h:x", "port"),
        (" ", "empty"),
        ("coap+unix:///a coap+tcp://", "store URL 2"),
    ],
)
def test_a_wrong_store_url(url: str, hint: str) -> None:
    with pytest.raises((ErisError, ConfigError, click.ClickException)) as raised:
        run("stat", "--store-url", url)
    assert exit_code(raised.value) == 2
    assert hint in str(raised.value)
