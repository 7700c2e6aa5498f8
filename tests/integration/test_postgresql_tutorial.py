"""docs/postgresql.md, word for word: a database, two daemons over it, clients, moving, a backup.

The server is one of `tests/postgres.py`, which lets in whoever says who he is. What the page has of
systemd and sudo are functions of the shell here: they read the units that the page makes, and start
what these name.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.integration.commands import Kapla
from tests.integration.daemon import running_daemon
from tests.integration.shells import Shell
from tests.integration.walkthrough import DOCUMENTS, free_port

postgres = pytest.importorskip("tests.postgres", reason="there is no driver of PostgreSQL")

PACKAGING = DOCUMENTS.parent / "packaging"
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"\b\d[\d.,]*(?: [KMGT]?i?B)?\b")
CONTENT = bytes(range(256)) * 1024

# How a block begins that is not typed here, and why.
LEFT_OUT = {
    "apt install postgresql\n/opt/kapla/bin/pip install '.[postgresql]'\n": "installs for all",
    "# systemctl edit kaplad\n": "tells systemd in which order to start",
    "hostssl kapla kapla ": "a line for the server, which is told it below",
}
# One after the other: where they are written.
SETTINGS = ("kapla.toml", "second.toml")

# `sudo -u NAME`: the server takes his word for it. `systemctl`: a daemon is there when it listens
# on its last address.
PRELUDE = """
sudo() { local user=$2; shift 2; PGUSER=$user "$@"; }
declare -A running
systemctl() {
    case "$1 $2" in
        "cat kaplad") cat UNITS/kaplad.service ;;
        "restart "*) ended "$2"; started "$2" ;;
        "enable --now") started "$3" ;;
        daemon-reload*) ;;
        *) echo "systemctl $*: what is that?" ;;
    esac
}
ended() {
    [ -n "${running[$1]}" ] || return
    kill "${running[$1]}" && wait "${running[$1]}" || echo "$1 ended badly"
}
started() {
    touch "$1.log"
    local before=$(grep -c "Listening on TCP" "$1.log")
    local command=$(sed -n 's|^ExecStart=/opt/kapla/bin/||p' "UNITS/$1.service")
    PGUSER=$(sed -n 's/^User=//p' "UNITS/$1.service") $command 2>> "$1.log" &
    running[$1]=$!
    until [ $(grep -c "Listening on TCP" "$1.log") -gt $before ]; do
        kill -0 $! || { cat "$1.log"; return; }
        sleep 0.05
    done
}
"""


class Typed(NamedTuple):
    """A command of the page, and what it shows below."""

    command: str
    shown: list[str]


class Page:
    """What is on the page, as it is for here."""

    def __init__(self, replaced: dict[str, str]) -> None:
        text = (DOCUMENTS / "postgresql.md").read_text()
        for there in replaced:
            assert there in text, f"the page does not say {there}"
        self._replaced = replaced
        self._blocks: list[tuple[str, str]] = FENCED.findall(text)

    @property
    def left_out(self) -> list[str]:
        """Blocks that are not typed."""
        return [body for _, body in self._blocks if _is_left_out(body)]

    @property
    def steps(self) -> Iterator[Typed | str]:
        """Commands, and contents of files."""
        for kind, body in self._blocks:
            if kind == "toml":
                yield self._here(body)
            elif not _is_left_out(body):
                yield from _typed(self._here(body))

    def _here(self, text: str) -> str:
        for there, here in self._replaced.items():
            text = text.replace(there, here)
        return text


def _is_left_out(body: str) -> bool:
    return any(body.startswith(beginning) for beginning in LEFT_OUT)


def _typed(block: str) -> Iterator[Typed]:
    """What stands behind a `$`, with what is shown below; or each line."""
    if not block.startswith("$ "):
        yield from (Typed(line, []) for line in block.splitlines())
        return
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, *shown = part.splitlines()
        yield Typed(command, shown)


def shape(line: str) -> str:
    """A line without what differs each time."""
    return " ".join(NUMBER.sub("#", line).replace("pins", "pin").split())


class Walk:
    """Where the page was followed to its end."""

    def __init__(self, home: Path, server: Any, page: Page) -> None:
        self.home, self.server, self.page = home, server, page
        self.said: list[tuple[Typed, str]] = []

    def everything(self) -> str:
        return "\n".join(f"$ {typed.command}\n{said}" for typed, said in self.said)


def follow(walk: Walk, run: Callable[[str], str]) -> None:
    files = iter(SETTINGS)
    for step in walk.page.steps:
        if isinstance(step, str):
            (walk.home / next(files)).write_text(step)
        else:
            walk.said.append((step, run(step.command)))


def replacements(home: Path, server: Any, before: Path) -> dict[str, str]:
    first, second = str(free_port()), str(free_port())
    return {
        "/run/postgresql": str(server.directory),
        "/run/kapla": str(home),
        "?group=kapla": "",
        "[::]:5683": f"127.0.0.1:{first}",
        "[::]:5693": f"127.0.0.1:{second}",
        "one.example:5693": f"127.0.0.1:{second}",
        "coap+tcp://one.example|": f"coap+tcp://127.0.0.1:{first}|",
        "/etc/kapla": str(home),
        "/etc/systemd/system": str(home),
        "/var/lib/kapla": str(before.parent),
        "/backup": str(home),
    }


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """One of its own: the page makes a role, and who may come from where."""
    made = postgres.Server()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store in a file, as there was one before; and the URN of what is in it."""
    home = tmp_path_factory.mktemp("before")
    with running_daemon(home) as daemon:
        kapla = Kapla(home, daemon.url)
        (home / "old").write_bytes(CONTENT)
        urn = kapla.out("encode", "--name", "old", str(home / "old")).strip()
        store = daemon.store
    return store, urn


@pytest.fixture(scope="module")
def walk(server: Any, before: tuple[Path, str]) -> Iterator[Walk]:
    with ExitStack() as stack:
        # The path of a socket is short, and that of a test's directory is not.
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kapla-")))
        shell = stack.enter_context(Shell(home / "home", []))
        replaced = replacements(shell.home, server, before[0])
        unit = (PACKAGING / "kaplad.service").read_text()
        (shell.home / "kaplad.service").write_text(unit.replace("/etc/kapla", str(shell.home)))
        shell.run(
            f"export PATH={server.programs}:$PATH PGHOST={server.directory}"
            f" KAPLA_CONFIG={shell.home / SETTINGS[0]}"
        )
        shell.run(PRELUDE.replace("UNITS", str(shell.home)))
        made = Walk(shell.home, server, Page(replaced))
        follow(made, shell.run)
        yield made
        shell.run("kill ${running[@]}; wait")


def test_all_that_is_not_typed_is_named(walk: Walk) -> None:
    assert len(walk.page.left_out) == len(LEFT_OUT)


def test_it_says_what_the_page_shows_and_nothing_else(walk: Walk) -> None:
    for typed, said in walk.said:
        found = [shape(line) for line in said.splitlines()]
        assert found == [shape(line) for line in typed.shown], walk.everything()


def test_whoever_is_elsewhere_gets_what_is_lent(walk: Walk) -> None:
    assert (walk.home / "copy" / "doors.txt").read_text() == (
        walk.home / "notes" / "doors.txt"
    ).read_text()


def test_each_daemon_was_started_on_the_database_and_restarted(walk: Walk) -> None:
    for name in ("kaplad", "kaplad-second"):
        begun = re.findall(
            r"store postgresql:///kapla\?host=", (walk.home / f"{name}.log").read_text()
        )
        assert len(begun) == 2, walk.everything()


def test_what_was_in_the_file_is_in_the_database_and_in_its_backup(
    walk: Walk, before: tuple[Path, str]
) -> None:
    for database in ("kapla", "again"):
        (walk.home / database).mkdir()
        with running_daemon(
            walk.home / database, "--store", walk.server.url(database, "kapla")
        ) as daemon:
            kapla = Kapla(walk.home / database, daemon.url)
            assert kapla("decode", before[1], "-").stdout == CONTENT
            assert len(kapla.out("pins", "--json").splitlines()) == 2


def test_the_server_understands_whom_it_is_to_let_in(walk: Walk) -> None:
    (line,) = [body for body in walk.page.left_out if body.startswith("hostssl")]
    ((path,),) = walk.server.execute("SHOW hba_file")
    with open(path, "a") as rules:
        rules.write(line)
    found = walk.server.execute(
        "SELECT type, database, user_name, address, auth_method FROM pg_hba_file_rules"
        " WHERE 'kapla' = ANY(database)"
    )
    assert found == [("hostssl", ["kapla"], ["kapla"], "192.0.2.0", "scram-sha-256")]
