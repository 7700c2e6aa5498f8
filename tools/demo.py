"""The whole way and back: a real tree into a running daemon, and out again from one URN.

Everything happens in a temporary directory, through the installed `kaplad` and `kapla`, as a user
would run them. The tree is the running Python's own standard library. Each step proves what it
says; the first proof that fails ends the demonstration with exit code 1.
"""

from __future__ import annotations

import filecmp
import json
import os
import platform
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

BIN = Path(sys.executable).parent
START_TIMEOUT_S = 20
STOP_TIMEOUT_S = 15
COMMAND_TIMEOUT_S = 120
LEFT_OUT = ("__pycache__", "site-packages", "dist-packages")


class DemoError(Exception):
    """A proof failed, or a program did."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What must survive of one path, besides the bytes of a file."""

    kind: str
    executable: bool = False
    target: str = ""
    size: int = 0

    def __str__(self) -> str:
        if self.kind == "symlink":
            return f"a symlink to {self.target}"
        if self.kind == "directory":
            return "a directory"
        return f"{'an executable' if self.executable else 'a file'} of {self.size:,} bytes"


@dataclass(frozen=True, slots=True)
class Stored:
    """What the daemon says that it holds."""

    blocks: Mapping[str, int]
    bytes: Mapping[str, int]


Tree = dict[str, Entry]


def say(text: str = "") -> None:
    print(text, flush=True)


def step(number: int, text: str) -> None:
    say(f"\n{number}. {text}")


def figure(label: str, value: str, note: str = "") -> None:
    say(f"   {label:<18}{value:>14}{'  ' + note if note else ''}")


def rate(size: int, files: int, seconds: float) -> str:
    return f"{size / seconds / 1e6:.0f} MB/s, {files / seconds:,.0f} files/s"


# --- the tree ---------------------------------------------------------------------------------


def scan(root: Path) -> Tree:
    """Every path below root but the root itself."""
    found: Tree = {}
    directories = [root]
    while directories:
        with os.scandir(directories.pop()) as items:
            for item in items:
                name = os.path.relpath(item.path, root)
                if item.is_symlink():
                    found[name] = Entry("symlink", target=os.readlink(item.path))
                elif item.is_dir():
                    found[name] = Entry("directory")
                    directories.append(Path(item.path))
                else:
                    status = item.stat()
                    executable = bool(status.st_mode & stat.S_IXUSR)
                    found[name] = Entry("file", executable=executable, size=status.st_size)
    return found


def make_tree(root: Path) -> tuple[Tree, str]:
    """Copy the standard library; also returns a note on what the library itself lacks."""
    library = sysconfig.get_path("stdlib")
    # A real copy: hard links would put the library itself in the hands of the programs shown.
    shutil.copytree(library, root, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
    added = []
    tree = scan(root)
    if not any(entry.kind == "symlink" for entry in tree.values()):
        (root / "added-link").symlink_to("os.py")
        (root / "added-broken-link").symlink_to("no/such/file")
        added.append("two symlinks")
    if not any(entry.executable for entry in tree.values()):
        program = root / "added-program"
        program.write_text("#!/bin/sh\necho kapla\n")
        program.chmod(0o755)
        added.append("an executable")
    note = f"the library has none, so {' and '.join(added)} were added" if added else ""
    return scan(root), note


def compare(first: Path, second: Path, expected: Tree) -> None:
    found = scan(second)
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            was, now = expected.get(name, "nothing"), found.get(name, "nothing")
            raise DemoError(f"{name} was {was}, and came back as {now}")
        if expected[name].kind == "file" and not filecmp.cmp(
            first / name, second / name, shallow=False
        ):
            raise DemoError(f"{name} came back with other bytes")


# --- the programs -----------------------------------------------------------------------------


def environment(scratch: Path, socket: Path) -> dict[str, str]:
    """The user's environment, without the user's Kapla: nothing of theirs is read or written."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KAPLA_")}
    homes = {f"XDG_{name}_HOME": str(scratch / name) for name in ("CACHE", "CONFIG", "DATA")}
    return kept | homes | {"ERIS_STORE_URL": f"coap+unix://{socket}"}


def kapla(env: Mapping[str, str], *arguments: str | Path) -> str:
    """Run one `kapla` command; its progress and errors go straight to the terminal."""
    command = [str(BIN / "kapla"), *map(str, arguments)]
    try:
        done = subprocess.run(
            command,
            env=env,
            stdout=subprocess.PIPE,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DemoError(f"kapla {arguments[0]} took over {COMMAND_TIMEOUT_S} s") from None
    if done.returncode != 0:
        raise DemoError(f"kapla {arguments[0]} ended with exit code {done.returncode}")
    return done.stdout.strip()


def stored(env: Mapping[str, str]) -> Stored:
    answer = json.loads(kapla(env, "stat", "--json"))
    return Stored(answer["blocks"], answer["bytes"])


@contextmanager
def daemon(
    env: Mapping[str, str], database: Path, socket: Path, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `kaplad`, listening; killed on the way out if it still runs, its log shown on errors."""
    options = ["--store", str(database), "--listen", f"coap+unix://{socket}"]
    with log.open("wb") as output:
        # A session of its own: Ctrl-C reaches us alone, and we stop it.
        process = subprocess.Popen(
            [str(BIN / "kaplad"), *options], env=env, stderr=output, start_new_session=True
        )
    try:
        wait_for_listening(process, log)
        yield process
    except DemoError:
        say("\n   kaplad's log:")
        for line in log.read_text(errors="replace").splitlines()[-20:]:
            say(f"   | {line}")
        raise
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def wait_for_listening(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while "Listening on" not in log.read_text(errors="replace"):
        if process.poll() is not None:
            raise DemoError(f"kaplad ended at once with exit code {process.returncode}")
        if time.monotonic() > deadline:
            raise DemoError(f"kaplad was not listening after {START_TIMEOUT_S} s")
        time.sleep(0.05)


def stop(process: subprocess.Popen[bytes], socket: Path) -> None:
    process.terminate()
    try:
        code = process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise DemoError(f"kaplad still ran {STOP_TIMEOUT_S} s after SIGTERM") from None
    if code != 0:
        raise DemoError(f"kaplad ended with exit code {code}")
    if socket.exists():
        raise DemoError("kaplad left its socket behind")


# --- the story --------------------------------------------------------------------------------


def encode_once(env: Mapping[str, str], source: Path, size: int, files: int) -> tuple[str, Stored]:
    begin = time.monotonic()
    urn = kapla(env, "encode", source)
    seconds = time.monotonic() - begin
    after = stored(env)
    say(f"   {urn}")
    for block_size, label in (("1024", "1 KiB"), ("32768", "32 KiB")):
        count, total = after.blocks.get(block_size, 0), after.bytes.get(block_size, 0)
        figure(f"blocks of {label}", f"{count:,}", f"{total:,} bytes")
    figure("time", f"{seconds:.2f} s", rate(size, files, seconds))
    return urn, after


def run(scratch: Path) -> None:
    source, copy, socket = scratch / "stdlib", scratch / "copy", scratch / "eris.sock"
    env = environment(scratch, socket)

    step(1, f"Take a real tree: the standard library of Python {platform.python_version()}")
    tree, note = make_tree(source)
    files = sum(entry.kind == "file" for entry in tree.values())
    size = sum(entry.size for entry in tree.values())
    figure("files", f"{files:,}", f"{size:,} bytes")
    figure("executables", f"{sum(entry.executable for entry in tree.values()):,}")
    figure("symlinks", f"{sum(entry.kind == 'symlink' for entry in tree.values()):,}", note)
    figure("directories", f"{sum(entry.kind == 'directory' for entry in tree.values()):,}")

    step(2, "Start the daemon, with an empty store")
    with daemon(env, scratch / "blocks.sqlite", socket, scratch / "kaplad.log") as process:
        say(f"   kaplad --store blocks.sqlite --listen coap+unix://{socket}")
        empty = stored(env)
        figure("blocks", f"{sum(empty.blocks.values()):,}")

        step(3, "Encode the tree:  kapla encode stdlib")
        urn, first = encode_once(env, source, size, files)
        if not sum(first.blocks.values()):
            raise DemoError("the daemon holds no block")

        step(4, "Decode it into another directory:  kapla decode URN copy")
        begin = time.monotonic()
        kapla(env, "decode", urn, copy)
        seconds = time.monotonic() - begin
        figure("time", f"{seconds:.2f} s", rate(size, files, seconds))

        step(5, "Compare the two, path by path and byte by byte")
        compare(source, copy, tree)
        say("   identical: paths, contents, executable bits, symlinks")

        step(6, "Encode the tree again:  kapla encode stdlib")
        again, second = encode_once(env, source, size, files)
        new = sum(second.blocks.values()) - sum(first.blocks.values())
        figure("new blocks", f"{new:,}")
        if again != urn:
            raise DemoError("the second encoding has another URN")
        if new:
            raise DemoError("the second encoding stored blocks anew")
        say("   the same URN, and nothing new to store")

        step(7, "Stop the daemon:  SIGTERM")
        stop(process, socket)
        say("   exit code 0, socket removed")


def interrupted(number: int, frame: FrameType | None) -> NoReturn:
    """End on SIGTERM as on Ctrl-C, so that the daemon and the files go too."""
    raise KeyboardInterrupt


def main() -> int:
    signal.signal(signal.SIGTERM, interrupted)
    begin = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="kapla-demo-") as scratch:
            run(Path(scratch))
    except (DemoError, OSError, shutil.Error) as error:
        say(f"\ndemo: FAILED: {error}")
        return 1
    except KeyboardInterrupt:
        say("\ndemo: interrupted; daemon stopped, files removed")
        return 130
    say(f"\nAll proofs hold. {time.monotonic() - begin:.1f} s in all.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
