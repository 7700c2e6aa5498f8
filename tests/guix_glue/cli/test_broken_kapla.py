"""`kapla-guix` and the extension of Guix with a Kapla that is broken: the stock program does it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from guix_glue.cli.programs import PROFILES
from tests.guix_glue.fetch.support import configuration, program_environment
from tests.integration.daemon import GUARD_S

PROGRAMS = Path(sys.executable).parent
PACKAGING = Path(__file__).resolve().parents[3] / "packaging"
COMMANDS = "info /gnu/store/x \nhave /gnu/store/y \n"
# The stock command: it says what it read, where replies go.
STOCK = """#!/bin/sh
echo "stock $*" >&4
while read -r word item; do echo "stock read $word $item" >&4; done
"""
STOCK_MODULE = """(define-module (guix scripts substitute) #:export (guix-substitute))
(use-modules (ice-9 rdelim))
(define (guix-substitute . arguments)
  (let ((port (fdopen 4 "w")))
    (format port "stock substitute ~a~%" (string-join arguments))
    (let loop ((line (read-line)))
      (unless (eof-object? line)
        (format port "stock read ~a~%" (string-trim-right line))
        (loop (read-line))))
    (force-output port)))
"""
DONE_BY_STOCK = "stock substitute --query\n" + "".join(
    f"stock read {line}\n" for line in COMMANDS.replace(" \n", "\n").splitlines()
)

Break = Callable[[Path], Mapping[str, str]]


# --- ways to be broken: each makes a `kapla`, or none, and an environment -----------------------


def _no_program(directory: Path) -> Mapping[str, str]:
    return {}


def _packages_gone(directory: Path) -> Mapping[str, str]:
    """As after an upgrade of the system's Python: the interpreter of the environment is another."""
    made = directory / "venv"
    venv.create(made, with_pip=False, symlinks=True)
    _script(directory, made / "bin/python")
    return {}


def _interpreter_gone(directory: Path) -> Mapping[str, str]:
    _script(directory, directory / "nowhere/python")
    return {}


def _import_error(directory: Path) -> Mapping[str, str]:
    return _shadowed(directory, "raise ImportError('libffi.so.7: cannot open shared object file')")


def _killed(directory: Path) -> Mapping[str, str]:
    return _shadowed(directory, "import os; os.kill(os.getpid(), 9)")


def _exits(directory: Path) -> Mapping[str, str]:
    return _shadowed(directory, "import os; os._exit(3)")


def _shadowed(directory: Path, code: str) -> Mapping[str, str]:
    """A module that it needs, but not at once, does what it likes."""
    (directory / "aiocoap.py").write_text(code)
    (directory / "httptools.py").write_text(code)
    _script(directory, Path(sys.executable))
    return {"PYTHONPATH": str(directory)}


def _script(directory: Path, interpreter: Path) -> None:
    """The program as pip installs it, for another interpreter."""
    lines = (PROGRAMS / "kapla").read_text().splitlines()
    (directory / "kapla").write_text("\n".join([f"#!{interpreter}", *lines[1:]]))
    (directory / "kapla").chmod(0o755)


BREAKS = [_no_program, _packages_gone, _interpreter_gone, _import_error, _killed, _exits]


# --- both ways to be started --------------------------------------------------------------------


class Started:
    """`kapla-guix`, or Guile with the extension, and what it says to the daemon."""

    def __init__(self, directory: Path, extension: bool) -> None:
        self.directory = directory
        (directory / "guix").write_text(STOCK)
        (directory / "guix").chmod(0o755)
        shutil.copy(PACKAGING / "guix/kapla-guix", directory)
        modules = directory / "guile/guix/scripts"
        modules.mkdir(parents=True)
        (modules / "substitute.scm").write_text(STOCK_MODULE)
        self.command: list[str | Path] = [directory / "kapla-guix", "substitute"]
        if extension:
            self.command = ["guile", "--no-auto-compile", "-L", directory / "guile", "-c"]
            load = f'(load "{PACKAGING}/guix/extensions/substitute.scm")'
            call = "(apply (@ (guix extensions substitute) guix-substitute)"
            self.command.append(f"{load} {call} (cdr (command-line)))")

    def run(
        self, environment: Mapping[str, str], arguments: Sequence[str] = ("--query",)
    ) -> subprocess.CompletedProcess[str]:
        """Replies, which go to descriptor 4, are in `stdout`."""
        return subprocess.run(
            ["/bin/sh", "-c", 'exec "$@" 4>&1 >&2', "sh", *self.command, *arguments],
            env={"PATH": f"{self.directory}:/usr/bin:/bin", **environment},
            input=COMMANDS,
            capture_output=True,
            text=True,
            check=False,
            timeout=GUARD_S,
        )


@pytest.fixture(params=["kapla-guix", "extension"])
def started(request: pytest.FixtureRequest, tmp_path: Path) -> Started:
    extension = request.param == "extension"
    if extension and shutil.which("guile") is None:
        pytest.skip("there is no guile to load the extension of Guix")
    return Started(tmp_path, extension)


@pytest.mark.parametrize("break_it", BREAKS, ids=lambda one: one.__name__)
def test_a_kapla_that_cannot_start_breaks_no_build(break_it: Break, started: Started) -> None:
    with configuration() as config:
        environment = program_environment(config, "")
        del environment["PATH"]
        done = started.run({**environment, **break_it(started.directory)})
    # The end of the process that the daemon started says nothing to it.
    assert done.stdout == DONE_BY_STOCK, done
    assert done.stderr.count("kapla cannot be started; the substitutes come by the stock") == 1


def test_what_works_is_not_replaced(started: Started) -> None:
    _script(started.directory, Path(sys.executable))
    with configuration() as config:
        environment = program_environment(config, "")
        del environment["PATH"]
        done = started.run(environment)
    assert (done.stdout, done.returncode) == ("\n\n", 0), done
    assert "stock" not in done.stderr


def test_what_is_loaded_later_is_looked_for_at_the_start(started: Started) -> None:
    _script(started.directory, Path(sys.executable))
    (started.directory / "sitecustomize.py").write_text(
        "import sys\nclass Gone:\n    @staticmethod\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name == 'aiohttp': sys.path.clear(); sys.path_importer_cache.clear()\n"
        "sys.meta_path.insert(0, Gone)\n"
    )
    with configuration() as config:
        environment = program_environment(config, "")
        del environment["PATH"]
        environment["PYTHONPATH"] = str(started.directory)
        done = started.run(environment, ["--substitute"])
    assert done.stdout == DONE_BY_STOCK.replace("--query", "--substitute")
    assert "aiohttp is not installed" in done.stderr


def test_an_option_that_kapla_lacks_is_for_the_stock_program(started: Started) -> None:
    _script(started.directory, Path(sys.executable))
    done = started.run({}, ["--query", "--of-a-later-guix"])
    assert done.stdout.startswith("stock substitute --query")
    assert "No such option" in done.stderr


def test_the_extension_of_a_guix_that_kapla_falls_back_to_is_stock(started: Started) -> None:
    _script(started.directory, Path(sys.executable))
    done = started.run({"KAPLA_FALLBACK": "1"})
    assert (done.stdout, done.stderr) == (DONE_BY_STOCK, "")


def test_once_it_has_begun_its_end_is_the_end(started: Started) -> None:
    """What it has read nobody can read again."""
    _script(started.directory, Path(sys.executable))
    (started.directory / "sitecustomize.py").write_text(
        "import os\nread = os.read\ndef dying(descriptor, size):\n"
        "    data = read(descriptor, size)\n"
        "    if descriptor == 0: os.kill(os.getpid(), 9)\n    return data\nos.read = dying\n"
    )
    with configuration() as config:
        environment = program_environment(config, "")
        del environment["PATH"]
        done = started.run({**environment, "PYTHONPATH": str(started.directory)})
    assert done.stdout == ""
    assert "stock" not in done.stderr


def test_kapla_does_not_outlive_the_process_that_the_daemon_knows(started: Started) -> None:
    """Two of them would write to one item."""
    _script(started.directory, Path(sys.executable))
    with configuration() as config:
        environment = program_environment(config, "")
        environment["PATH"] = f"{started.directory}:/usr/bin:/bin"
        with subprocess.Popen(
            ["/bin/sh", "-c", 'exec "$@" 4>&1 >&2', "sh", *started.command, "--query"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"have \n")
            process.stdin.flush()
            assert process.stdout.readline() == b"\n"
            process.kill()
            # Its end of the pipe is closed by now, though its input is not.
            assert process.stdout.read() == b""


def test_the_wrapper_finds_kapla_beside_the_file_that_a_link_names(tmp_path: Path) -> None:
    started = Started(tmp_path, extension=False)
    _script(tmp_path, Path(sys.executable))
    (tmp_path / "links").mkdir()
    os.symlink(tmp_path / "kapla-guix", tmp_path / "links/kapla-guix")
    started.command[0] = tmp_path / "links/kapla-guix"
    with configuration() as config:
        environment = program_environment(config, "")
        done = started.run({**environment, "PATH": "/usr/bin:/bin"})
    assert (done.stdout, done.returncode) == ("\n\n", 0), done


def test_both_lists_of_places_are_one() -> None:
    text = (PACKAGING / "guix/kapla-guix").read_text()
    listed = re.search(r"in \$\{PATH-\} \\\n(.*?); do", text, re.DOTALL)
    assert listed is not None
    assert tuple(listed[1].replace("\\", "").split()) == PROFILES
