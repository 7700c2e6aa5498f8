"""Completion: what is answered, to the protocol and to real shells."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import click
import pytest

from kapla.catalogue.catalogue import Catalogue
from kapla.cli.commands import OWN, load
from kapla.cli.completing.answering import answer
from kapla.cli.completing.at_stores import next_steps
from kapla.cli.completing.kinds import Kind, choices_of, kinds_of
from kapla.cli.completing.scripts import SHELLS
from kapla.cli.main import command_line
from tests.integration.daemon import GUARD_S, Daemon, program, running_daemon

needs = {
    shell: pytest.mark.skipif(shutil.which(shell) is None, reason=f"needs {shell}")
    for shell in SHELLS
}

HOSTILE = """evil"$(touch ran)`touch ran`';touch ran;'\\!z"""


@dataclass(frozen=True)
class Place:
    """A directory with some files, the catalogue of a user, and a daemon with what is in it."""

    directory: Path
    environment: dict[str, str]
    daemon: Daemon

    def kapla(self, *arguments: str) -> None:
        subprocess.run(
            [program("kapla"), *arguments],
            cwd=self.directory,
            env=self.environment,
            check=True,
            capture_output=True,
            timeout=120,
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("here")
    for name in ("notes/plan.txt", "notes/sub/b.txt", "a dir/my file.txt", "top.urn"):
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    with running_daemon() as daemon:
        environment = {
            **os.environ,
            "PATH": f"{Path(program('kapla')).parent}:{os.environ['PATH']}",
            "HOME": str(daemon.directory),
            "XDG_DATA_HOME": str(daemon.directory / "data"),
            "XDG_CACHE_HOME": str(daemon.directory / "cache"),
            "ERIS_STORE_URL": daemon.url,
            "TERM": "dumb",
            "PS1": "$ ",
            "INPUTRC": "/dev/null",
        }
        made = Place(directory, environment, daemon)
        made.kapla("encode", "--name", "tree", "notes")
        with Catalogue.open(daemon.directory / "data/kapla-client/catalogue.sqlite") as catalogue:
            tree = catalogue.find("tree")
            assert tree is not None
            for name in ("tree", "my words"):
                catalogue.note(replace(tree, name=name, store="coap+tcp://elsewhere"))
        made.kapla("pin", "--name", "holidays", "@tree")
        yield made


@pytest.fixture
def here(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """The same, for completing in this process."""
    monkeypatch.chdir(place.directory)
    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    return place


def completed(line: str, capfd: pytest.CaptureFixture[str], shell: str = "bash") -> list[str]:
    """What is answered for a line: the values behind their types."""
    capfd.readouterr()
    asked = {"_KAPLA_COMPLETE": f"{shell}_complete", "_KAPLA_LINE": line}
    assert answer(command_line(), asked) == 0
    shown = capfd.readouterr()
    assert shown.err == ""
    return [" ".join(text.split("\t")[:2]) for text in shown.out.splitlines()]


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("kapla enc", ["plain encode"]),
        ("kapla -q enc", ["plain encode"]),
        ("kapla signing-key gen", ["plain generate"]),
        ("kapla encode --pack", ["plain --packed"]),
        ("kapla encode --block-size 3", ["plain 32KiB"]),
        ("kapla encode --block-size 32ki", ["plain 32KiB"]),
        ("kapla encode fo", ["file fo"]),
        ("kapla encode 'a d", ["file a d"]),
        ("kapla encode --out=to", ["file to"]),
        ("kapla encode --exclude ", []),
        ("kapla signing-key generate di", ["dir di"]),
        ("kapla decode @tree ", ["file "]),
        ("kapla decode @tr", ["plain @tree"]),
        ("kapla decode @my", ["plain @my words"]),
        ("kapla decode ", ["plain @my words", "plain @tree"]),
        ("kapla decode @tree~", ["plain @tree~0", "plain @tree~1"]),
        ("kapla decode @tree~1", ["plain @tree~1"]),
        ("kapla decode @to", ["plain @top.urn"]),
        ("kapla decode @no", ["open @notes/"]),
        ("kapla decode @notes/p", ["plain @notes/plan.txt"]),
        ("kapla decode urn:eris:", []),
        ("kapla forget ", ["plain my words", "plain tree"]),
        ("kapla forget @tr", ["plain @tree"]),
        ("kapla list t", ["plain tree"]),
        ("kapla cat @tree ", ["plain plan.txt", "open sub/"]),
        ("kapla cat @tree~1 sub/", ["plain sub/b.txt"]),
        ("kapla cat - ", []),
        ("kapla cat @nothing ", []),
        ("kapla cat @top.urn ", []),
        ("kapla cat --store-url coap+unix:///nonexistent @tree ", []),
        ("kapla unpin hol", ["plain holidays"]),
        ("kapla unpin @tr", ["plain @tree"]),
        ("kapla export @tree ", ["plain @my words", "plain @tree"]),
        ("kapla export @tree out", ["file out"]),
        ("kapla verify --from ", ["file "]),
        ("kapla verify --from coap+t", ["open coap+tcp://"]),
        ("kapla manual enc", ["plain encode"]),
        ("kapla encode \"'", ["file '"]),
    ],
)
def test_what_may_stand_there(
    here: Place, capfd: pytest.CaptureFixture[str], line: str, values: list[str]
) -> None:
    assert sorted(completed(line, capfd)) == sorted(values)


def test_sockets_of_stores(here: Place, capfd: pytest.CaptureFixture[str]) -> None:
    assert completed("kapla ls --store-url coap+u", capfd) == ["open coap+unix://"]
    directory = here.daemon.directory
    assert f"plain coap+unix://{directory}/eris.sock" in completed(
        f"kapla ls --store-url coap+unix://{directory}/e", capfd
    )


def test_scripts_that_click_made_are_still_answered(
    here: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    asked = {"_KAPLA_COMPLETE": "bash_complete", "COMP_WORDS": "kapla ls @tr", "COMP_CWORD": "2"}
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    assert answer(command_line(), asked) == 0
    assert capfd.readouterr().out == "plain,@tree\n"


@pytest.mark.parametrize("asked", ["", "bash", "tcsh_complete", "bash_other"])
def test_who_asks_wrong_is_told_nothing(asked: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert answer(command_line(), {"_KAPLA_COMPLETE": asked}) == 1
    assert capfd.readouterr() == ("", "")


def test_nothing_is_made(
    tmp_path: Path,
    here: Place,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert completed("kapla decode @tr", capfd) == []
    assert not list(tmp_path.iterdir())


def test_a_store_that_is_silent_is_not_waited_for(
    tmp_path: Path, here: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        path = here.daemon.directory / "silent.sock"
        silent.bind(str(path))
        silent.listen()
        assert completed(f"kapla cat --store-url coap+unix://{path} @tree ", capfd) == []
        path.unlink()


@pytest.mark.parametrize(
    ("paths", "text", "steps"),
    [
        (["a/b/c", "a/b/d", "a/e", "f"], "", ["a/", "f"]),
        (["a/b/c", "a/b/d", "a/e", "f"], "a/", ["a/b/", "a/e"]),
        (["a/b/c", "a/b/d"], "a/b/", ["a/b/c", "a/b/d"]),
        (["empty/"], "em", ["empty/"]),
        (["a"], "b", []),
    ],
)
def test_paths_go_one_step_at_a_time(paths: list[str], text: str, steps: list[str]) -> None:
    assert next_steps(paths, text) == steps


def test_of_endless_paths_some_are_shown() -> None:
    assert len(next_steps((str(number) for number in range(10**5)), "")) <= 500


def every_parameter(command: click.Command) -> Iterator[tuple[click.Context, click.Parameter]]:
    context = click.Context(command)
    yield from ((context, parameter) for parameter in command.params)
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from every_parameter(inner)


@pytest.mark.parametrize("name", sorted(OWN))
def test_every_metavar_is_known(name: str) -> None:
    command = load(name)
    assert isinstance(command, click.Command)
    for context, parameter in every_parameter(command):
        is_flag = isinstance(parameter, click.Option) and (parameter.is_flag or parameter.count)
        if not is_flag and not choices_of(parameter):
            text = f"kapla {name}: {parameter.make_metavar(context)} is no word of KINDS"
            assert kinds_of(parameter, context), text


def test_the_words_of_a_metavar() -> None:
    context = click.Context(click.Command("x"))
    metavar = click.Argument(["which"], metavar="NAME|URN…")
    assert kinds_of(metavar, context) == [Kind.NAME, Kind.URN]
    assert kinds_of(click.Argument(["which"], metavar="[FILE|-]"), context)[0] is Kind.FILE
    assert kinds_of(click.Argument(["which"], metavar="GARDEN"), context) == []


# --- real shells ------------------------------------------------------------------------------


def in_bash(place: Place, line: str) -> tuple[list[str], str]:
    """What bash has to offer for a line, and what else it is told: options of `compopt`."""
    script = """
        compopt() { told+=" compopt $*"; }
        source <(kapla completion bash)
        complete -p kapla >&2
        COMP_LINE="$1" COMP_POINT=${#1}
        read -ra COMP_WORDS <<< "$1"
        [[ $1 == *' ' ]] && COMP_WORDS+=("")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _kapla_completion kapla
        echo "$told" >&2
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "--norc", "--noprofile", "-c", script, "bash", line],
        cwd=place.directory,
        env=place.environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "complete -o nosort -F _kapla_completion kapla" in done.stderr
    return done.stdout.split("\n")[:-1], done.stderr


@needs["bash"]
@pytest.mark.parametrize(
    ("line", "replies", "option"),
    [
        ("kapla decode @my", ["@my\\ words"], ""),
        ("kapla ls --store-url coap+u", ["coap+unix://"], "compopt -o nospace"),
        ("kapla encode to", [""], "compopt -o default"),
        ("kapla decode @no", ["@notes/"], "compopt -o nospace"),
    ],
)
def test_bash(place: Place, line: str, replies: list[str], option: str) -> None:
    offered, said = in_bash(place, line)
    assert offered == replies
    assert option in said


@needs["bash"]
@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_a_name_is_a_word_to_bash_whatever_is_in_it(
    place: Place, quote: str, tmp_path: Path
) -> None:
    own = "kapla-client/catalogue.sqlite"
    with Catalogue.open(Path(place.environment["XDG_DATA_HOME"]) / own) as catalogue:
        tree = catalogue.find("tree")
    assert tree is not None
    with Catalogue.open_or_make(tmp_path / own) as catalogue:
        catalogue.note(replace(tree, name=HOSTILE))
    place = replace(place, environment=place.environment | {"XDG_DATA_HOME": str(tmp_path)})
    (offered,), _ = in_bash(place, f"kapla decode {quote}@ev")
    script = f"set -H; printf '%s\n' {quote}{offered}{quote}"
    said = subprocess.run(
        ["bash", "-c", script],
        cwd=place.directory,
        check=True,
        capture_output=True,
        text=True,
        timeout=GUARD_S,
    )
    assert said.stdout == f"@{HOSTILE}\n"
    assert not (place.directory / "ran").exists()


@needs["bash"]
def test_where_quotes_open_within_a_word_bash_offers_nothing(place: Place) -> None:
    assert in_bash(place, 'kapla decode "@"\'ev')[0] == [""]


@needs["fish"]
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("kapla decode @tr", {"@tree"}),
        ("kapla encode to", {"top.urn"}),
        ("kapla encode --out=to", {"--out=top.urn"}),
    ],
)
def test_fish(place: Place, line: str, offered: set[str]) -> None:
    done = subprocess.run(
        ["fish", "--no-config", "-c", "kapla completion fish | source; complete -C $argv[1]", line],
        cwd=place.directory,
        env=place.environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert {text.split("\t")[0] for text in done.stdout.splitlines()} == offered


SET_UP = {
    "bash": ("--norc --noprofile", "source <(kapla completion bash)"),
    "zsh": ("-f", "autoload -U compinit; compinit -u -D; source <(kapla completion zsh)"),
}


class Terminal:
    """A shell on a terminal, to whose user things are shown."""

    def __init__(self, shell: str, place: Place) -> None:
        options, begin = SET_UP[shell]
        self._pid, self._terminal = pty.fork()
        if not self._pid:
            os.chdir(place.directory)
            os.execvpe(shell, [shell, *options.split()], place.environment)
        self._shown = ""
        self.type(f"{begin}; echo REA''DY\n")
        self.wait_for("READY\r?\n")

    def type(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def wait_for(self, pattern: str) -> None:
        deadline = time.monotonic() + 4 * GUARD_S
        while not (found := re.search(pattern, self._shown)):
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._terminal], [], [], max(0.0, left))
            assert ready, f"{pattern!r} is not in {self._shown!r}"
            self._shown += os.read(self._terminal, 65536).decode("utf-8", "replace")
        self._shown = self._shown[found.end() :]

    def close(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._terminal)


@pytest.mark.parametrize(
    "shell", [pytest.param("bash", marks=needs["bash"]), pytest.param("zsh", marks=needs["zsh"])]
)
def test_as_it_is_typed(place: Place, shell: str) -> None:
    terminal = Terminal(shell, place)
    try:
        for typed, shown in (
            ("encode a", r"kapla encode a\\ dir/"),
            ("decode @tr", "@tree "),
            ('decode "@my w', '@my words" '),
            # What quotes zsh then puts there is its own affair.
            ('decode @"my w', r'@"my words" ' if shell == "bash" else r"my\\ words "),
            ("cat @tree p", "plan.txt "),
            ("encode --out=to", "--out=top.urn "),
        ):
            terminal.type(f"kapla {typed}\t")
            terminal.wait_for(shown)
            # Away with the line, and on to the next.
            terminal.type("\x15echo REA''DY\n")
            terminal.wait_for("READY\r?\n")
    finally:
        terminal.close()
